import SystemPackage
import Tensors

extension TensorFile {
  /// Opens a checkpoint of torch.save, as a zip archive or in the layout of torch before 1.6.
  ///
  /// The pickle inside is read, never executed.
  ///
  /// - Throws: `zip.…`, `pickle.…` and `torch.…`; TorchScript and tar archives are of kind `unsupported`.
  static func torch(_ file: InputFile, limits: ReadLimits) throws(SurgeryError) -> TensorFile {
    do throws(SurgeryError) {
      let head = try file.bytes(at: 0, count: Int(min(file.size, 512)))
      if head.starts(with: Array("PK".utf8)) {
        return try TorchArchive(file, limits: limits).tensorFile()
      }
      if head.count >= 262, head[257..<262].elementsEqual("ustar".utf8) {
        throw SurgeryError(
          .unsupported, "torch.tar", "a tar archive, as torch before 0.1.10 wrote, is not read",
          hint: "load it with an old torch and save it again")
      }
      if head.first == 0x80 { return try TorchLegacyFile(file, head: head).tensorFile() }
      throw SurgeryError(
        .data, "torch.unknown",
        "this is no PyTorch checkpoint: neither a zip archive nor a pickle", offset: 0)
    } catch {
      throw error.inFile(file.path)
    }
  }

  /// The name of a tensor that is a checkpoint by itself.
  static func soleTensorName(in file: InputFile) -> String {
    FilePath(file.path).stem ?? file.path
  }
}

/// The zip archive that torch.save has written since 1.6: `NAME/data.pkl`, `NAME/data/KEY` for each storage,
/// `NAME/byteorder` and other small records (`torch/serialization.py`, `caffe2/serialize/inline_container.cc`).
private struct TorchArchive {
  private static let smallRecord: UInt64 = 1000

  private let archive: ZipArchive
  /// The top folder, with its slash.
  private let folder: String
  /// False where no member has a checksum, as after `torch.serialization.set_crc32_options(False)`.
  private let checksCRC: Bool

  init(_ file: InputFile, limits: ReadLimits) throws(SurgeryError) {
    let archive = try ZipArchive(file, limits: limits)
    self.archive = archive
    checksCRC = archive.entries.contains { $0.crc != 0 }
    let pickles = archive.entries.filter { $0.name.lowercased().hasSuffix("/data.pkl") }
    guard let pickle = pickles.first else {
      let isNumPy = archive.entries.contains { $0.name.hasSuffix(".npy") }
      throw SurgeryError(
        .data, "torch.no-pickle", "the zip archive has no data.pkl and is no PyTorch checkpoint",
        hint: isNumPy ? "it holds NumPy arrays: rename it to .npz" : nil)
    }
    guard pickles.count == 1 else {
      throw SurgeryError(
        .data, "torch.duplicate-pickle",
        "the archive has several data.pkl, so readers disagree on what it holds",
        found: pickles.prefix(3).map { "\"\($0.name)\"" }.joined(separator: ", "))
    }
    let folder = String(pickle.name.dropLast("data.pkl".count))
    self.folder = folder
    guard pickle.name.hasSuffix("/data.pkl"), folder.utf8.count(where: { $0 == 0x2F }) == 1 else {
      throw SurgeryError(
        .data, "torch.no-pickle", "the archive's data.pkl is not where torch writes it",
        expected: "NAME/data.pkl", found: "\"\(pickle.name)\"")
    }
    if let stranger = archive.entries.first(where: { !$0.name.hasPrefix(folder) }) {
      throw stranger.failure(
        "torch.folder", "the member lies outside the checkpoint's folder \"\(folder)\"")
    }
    if archive.entries.contains(where: {
      $0.name == folder + "constants.pkl" || $0.name.hasPrefix(folder + "code/")
    }) {
      throw SurgeryError(
        .unsupported, "torch.script", "a TorchScript archive, which is a program, is not read",
        hint: "torch.save the model's state_dict()")
    }
  }

  func tensorFile() throws(SurgeryError) -> TensorFile {
    let isBigEndian = try readByteOrder()
    guard let entry = archive.entry(named: folder + "data.pkl") else {
      throw SurgeryError(.bug, "torch.no-pickle", "data.pkl is gone")
    }
    let bytes = try archive.contents(
      of: entry, limit: UInt64(PickleInput.maximumSize), checksCRC: checksCRC)
    let (value, heap) = try run(bytes, of: entry)
    let flat = try TorchFlattening(
      value, heap: heap, pickleSize: bytes.count,
      soleName: TensorFile.soleTensorName(in: archive.file))
    var builder = TorchTensors(heap, in: archive.file, isBigEndian: isBigEndian, find: storage)
    let (tensors, warnings) = try builder.build(flat)
    return TensorFile(
      file: archive.file, format: .torch, tensors: tensors, metadata: flat.metadata,
      warnings: archive.warnings + flat.warnings + warnings)
  }

  private func run(
    _ bytes: [UInt8], of entry: ZipEntry
  ) throws(SurgeryError) -> (PickleValue, PickleHeap) {
    do throws(SurgeryError) {
      var machine = PickleMachine(PickleInput(bytes))
      let value = try machine.run()
      guard machine.input.rest == 0 else {
        throw SurgeryError(
          .data, "pickle.trailing", "bytes follow the pickle's end",
          found: "\(machine.input.rest, counting: "byte")", offset: UInt64(machine.input.position))
      }
      return (value, machine.heap)
    } catch {
      var error = error
      if let offset = error.offset {
        error.what += ", at byte \(offset) of data.pkl"
        error.offset = entry.method == .stored ? entry.dataOffset + offset : nil
      }
      throw error
    }
  }

  private func readByteOrder() throws(SurgeryError) -> Bool {
    guard let entry = archive.entry(named: folder + "byteorder") else { return false }
    let text = try archive.contents(of: entry, limit: Self.smallRecord, checksCRC: checksCRC)
    if text.elementsEqual("little".utf8) { return false }
    if text.elementsEqual("big".utf8) { return true }
    throw entry.failure("torch.byteorder", "the byteorder is neither little nor big")
  }

  private func storage(_ storage: PickleHeap.Storage) throws(SurgeryError) -> TorchStorageBytes {
    guard !storage.key.isEmpty, storage.key.utf8.allSatisfy({ $0 != 0x2F }),
      let entry = archive.entry(named: "\(folder)data/\(storage.key)")
    else {
      throw SurgeryError(
        .data, "torch.no-storage",
        "the archive has no storage \"\(DisplayText.escaped(storage.key))\"")
    }
    let source = ZipMemberSource(entry, in: archive.file, checksCRC: checksCRC)
    return TorchStorageBytes(
      whole: source, parts: source.partial, byteCount: entry.size,
      isCompressed: entry.method == .deflated)
  }
}
