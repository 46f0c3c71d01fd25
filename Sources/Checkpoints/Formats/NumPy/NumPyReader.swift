import SystemPackage
import Tensors

extension NpyHeader {
  /// The tensor of an array whose elements begin at the start of `data`.
  func tensor(_ name: TensorName, data: any TensorSource) throws(SurgeryError) -> StoredTensor {
    guard let info = TensorInfo(name: name, dtype: dtype, shape: shape) else {
      throw SurgeryError(.bug, "npy.size", "an array's size is not known", tensor: name.text)
    }
    var source = data
    if isFortranOrder, shape.elementCount > 0, let size = dtype.bytesPerElement {
      let layout = StridedLayout(fortranOrder: shape, elementSize: size)
      if !layout.isContiguous { source = StridedSource(source, layout: layout) }
    }
    if isBigEndian, dtype.byteOrderUnit > 1 {
      source = ByteSwappedSource(source, unit: dtype.byteOrderUnit)
    }
    return StoredTensor(info: info, source: source)
  }
}

extension TensorFile {
  /// Opens an npy file, which holds one tensor; it takes the name of the file without its extension.
  ///
  /// - Throws: The `npy.…` errors.
  static func npy(_ file: InputFile) throws(SurgeryError) -> TensorFile {
    do throws(SurgeryError) {
      let preamble = try file.bytes(
        at: 0, count: Int(min(file.size, UInt64(NpyHeader.preambleSize))))
      let size = try NpyHeader.size(from: preamble, of: file.size)
      let header = try NpyHeader(try file.bytes(at: 0, count: size), of: file.size)
      let name = TensorName(FilePath(file.path).stem ?? file.path)
      let data = PlainSource(file: file, offset: UInt64(header.dataOffset))
      return TensorFile(
        file: file, format: .npy, tensors: [try header.tensor(name, data: data)])
    } catch {
      throw error.inFile(file.path)
    }
  }

  /// Opens an npz file: a zip archive of npy arrays, whose names are the members' without `.npy`.
  ///
  /// - Throws: The `zip.…`, `npy.…` and `npz.…` errors.
  static func npz(_ file: InputFile, limits: ReadLimits) throws(SurgeryError) -> TensorFile {
    do throws(SurgeryError) {
      let archive = try ZipArchive(file, limits: limits)
      if archive.entries.contains(where: { $0.name.hasSuffix("/data.pkl") }) {
        throw SurgeryError(
          .data, "npz.torch", "this is a PyTorch checkpoint under the name of an npz file",
          hint: "rename it to .pt")
      }
      return try NpzContents(archive).tensorFile
    } catch {
      throw error.inFile(file.path)
    }
  }
}

/// The members of an npz archive told apart: arrays, our metadata, strangers.
private struct NpzContents {
  private(set) var tensorFile: TensorFile

  init(_ archive: ZipArchive) throws(SurgeryError) {
    tensorFile = TensorFile(file: archive.file, format: .npz, tensors: [])
    tensorFile.warnings = archive.warnings
    tensorFile.metadata = NpzRecords.metadata(inComment: archive.comment) ?? [:]
    var names = Set<TensorName>()
    var strangers: [String] = []
    for entry in archive.entries {
      if entry.name == NpzRecords.metadataMember {
        let bytes = try archive.contents(of: entry, limit: JSONValue.maximumFileSize)
        tensorFile.metadata = try NpzRecords.metadata(
          in: try JSONValue(parsing: bytes), of: entry.name)
        continue
      }
      let hasSuffix = entry.name.hasSuffix(".npy")
      let name = TensorName(hasSuffix ? String(entry.name.dropLast(4)) : entry.name)
      let preamble = try archive.prefix(of: entry, count: NpyHeader.preambleSize)
      if !hasSuffix, !preamble.starts(with: NpyHeader.magic) {
        strangers.append(entry.name)
        continue
      }
      guard names.insert(name).inserted else {
        throw entry.failure(
          "npz.duplicate", "a duplicate: another member gives the same tensor name")
      }
      do throws(SurgeryError) {
        tensorFile.tensors.append(try Self.tensor(name, entry, preamble, archive))
      } catch {
        throw error.inTensor(name)
      }
    }
    if names.isEmpty, let stranger = strangers.first {
      throw SurgeryError(
        .data, "npz.no-arrays", "none of the archive's members is an array", expected: "NAME.npy",
        found: stranger, hint: "unpack the archive, and name the file of tensors in it")
    }
    tensorFile.warnings += strangers.map {
      "member \"\(DisplayText.escaped($0))\" is no array and was left out"
    }
  }

  private static func tensor(
    _ name: TensorName, _ entry: ZipEntry, _ preamble: [UInt8], _ archive: ZipArchive
  ) throws(SurgeryError) -> StoredTensor {
    let header: NpyHeader
    do throws(SurgeryError) {
      let size = try NpyHeader.size(from: preamble, of: entry.size)
      header = try NpyHeader(
        try archive.prefix(of: entry, count: size), of: entry.size,
        recorded: NpzRecords.dtype(inComment: entry.comment))
    } catch {
      var error = error
      if entry.method == .stored {
        error.offset = error.offset.map { $0 + entry.dataOffset }
      } else {
        error.offset = nil
      }
      throw error
    }
    let source = ZipMemberSource(entry, in: archive.file, from: UInt64(header.dataOffset))
    // Nobody reads the bytes of an empty array, and its header is all that there is to check.
    if header.byteCount == 0 { try source.verify() }
    return try header.tensor(name, data: source)
  }
}
