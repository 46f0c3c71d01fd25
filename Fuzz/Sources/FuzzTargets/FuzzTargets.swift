import Checkpoints
import Glibc
import Tensors

/// The readers under test; each takes the bytes of one file.
public enum FuzzTarget: String, CaseIterable, Sendable {
  case safetensors, index, gguf

  /// Reads `bytes` as this target's format and everything in them.
  ///
  /// A refusal is fine, and so is success; a trap, a sanitizer's report, or a refusal for reasons of ours is a finding.
  public func run(_ bytes: UnsafeRawBufferPointer) {
    // One folder in memory for the whole process; libFuzzer runs one input at a time.
    let folder = "/dev/shm/lora-surgery-fuzz-\(getpid())"
    mkdir(folder, 0o700)
    let path: String
    switch self {
    case .safetensors: path = folder + "/x.safetensors"
    case .gguf: path = folder + "/x.gguf"
    case .index:
      path = folder + "/model.safetensors.index.json"
      for name in ["a", "b"] { Self.write(Self.shard(name), to: "\(folder)/\(name).safetensors") }
    }
    Self.write(bytes, to: path)
    defer {
      for name in [
        "x.safetensors", "x.gguf", "model.safetensors.index.json", "a.safetensors", "b.safetensors",
      ] {
        unlink(folder + "/" + name)
      }
      rmdir(folder)
    }
    do throws(SurgeryError) {
      let checkpoint = try Checkpoint(opening: self == .index ? folder : path)
      for tensor in checkpoint.tensors {
        // What is delivered is bounded by what is stored; Q8_0 has the largest ratio.
        precondition(
          tensor.info.byteCount <= 4 * max(bytes.count, 1000), "more than the file holds")
        let delivered = try tensor.bytes().count
        precondition(delivered == tensor.info.byteCount, "a short tensor")
      }
    } catch {
      precondition(
        error.kind == .data || error.kind == .unsupported || error.kind == .missingInput,
        "\(error)")
      precondition(error.description.utf8.count <= 4096, "a long error")
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
