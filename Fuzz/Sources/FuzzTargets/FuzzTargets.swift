import Checkpoints
import Glibc
import Tensors

/// The readers under test; each takes the bytes of one file.
public enum FuzzTarget: String, CaseIterable, Sendable {
  case safetensors, index, gguf, npy, npz, torch, compact

  /// The name of the file that is read.
  private var fileName: String {
    switch self {
    case .safetensors: "x.safetensors"
    case .index: "model.safetensors.index.json"
    case .gguf: "x.gguf"
    case .npy: "x.npy"
    case .npz: "x.npz"
    case .torch: "x.pt"
    case .compact: "x.lra"
    }
  }

  /// The most bytes of a tensor that a file of this size justifies.
  private func limit(size: Int) -> Int {
    switch self {
    case .npz: Self.inflatedBytes
    // Views may repeat elements: what they expand to is limited, and never held in memory.
    case .torch: 1 << 30
    case .compact: 32 * max(size, 1000)
    // Q8_0 delivers 128 bytes for 34.
    default: 4 * max(size, 1000)
    }
  }

  private static let inflatedBytes = 1 << 20

  /// Reads `bytes` as this target's format and everything in them.
  ///
  /// A refusal is fine, and so is success; a trap, a sanitizer's report, or a refusal for reasons of ours is a finding.
  public func run(_ bytes: UnsafeRawBufferPointer) {
    // One folder in memory for the whole process; libFuzzer runs one input at a time.
    let folder = "/dev/shm/lora-surgery-fuzz-\(getpid())"
    mkdir(folder, 0o700)
    let path = folder + "/" + fileName
    if self == .index {
      for name in ["a", "b"] { Self.write(Self.shard(name), to: "\(folder)/\(name).safetensors") }
    }
    Self.write(bytes, to: path)
    defer {
      for name in [fileName, "a.safetensors", "b.safetensors"] { unlink(folder + "/" + name) }
      rmdir(folder)
    }
    do throws(SurgeryError) {
      let checkpoint = try Checkpoint(
        opening: self == .index ? folder : path,
        limits: ReadLimits(inflatedBytes: UInt64(Self.inflatedBytes)))
      for tensor in checkpoint.tensors {
        precondition(
          tensor.info.byteCount <= limit(size: bytes.count), "more than the file justifies")
        try Self.readEnds(of: tensor)
      }
    } catch {
      precondition(
        error.kind == .data || error.kind == .unsupported || error.kind == .missingInput,
        "\(error)")
      precondition(error.description.utf8.count <= 4096, "a long error")
    }
  }

  /// Reads a tensor, of a large one both ends.
  private static func readEnds(of tensor: StoredTensor) throws(SurgeryError) {
    var reader = try tensor.source.makeReader()
    let size = tensor.info.byteCount
    let count = min(size, 1 << 16)
    var scratch = [UInt8](repeating: 0, count: count)
    for offset in Set([0, size - count]) {
      try scratch.withMutableRawSpan(0..<count) { (target) throws(SurgeryError) in
        try reader.read(at: offset, into: &target)
      }
    }
  }

  /// A shard with one tensor.
  private static func shard(_ name: String) -> [UInt8] {
    let header = Array("{\"\(name)\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}".utf8)
    return (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) } + header + [1, 2]
  }

  private static func write(_ bytes: [UInt8], to path: String) {
    bytes.withUnsafeBytes { write($0, to: path) }
  }

  private static func write(_ bytes: UnsafeRawBufferPointer, to path: String) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    precondition(descriptor >= 0, "cannot write \(path)")
    var done = 0
    while done < bytes.count {
      let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
      precondition(count > 0, "cannot write \(path)")
      done += count
    }
    close(descriptor)
  }
}
