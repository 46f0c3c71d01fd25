import Checkpoints
import Tensors

/// An opened undo record.
struct UndoReader: Sendable {
  let file: InputFile
  let record: UndoRecord

  /// The most bytes of a directory: about a hundred million pages.
  private static let maximumDirectory: UInt64 = 1 << 30

  /// Opens a record and reads its directory.
  ///
  /// - Parameter path: The file that `merge --undo` wrote.
  /// - Throws: `undo.format`, `undo.version`, `undo.damaged`, and what opening throws.
  init(_ path: String) throws(SurgeryError) {
    file = try InputFile(path)
    guard file.size >= UndoRecord.headerSize + UndoRecord.trailerSize,
      Array(try file.bytes(at: 0, count: 8)) == UndoRecord.magic
    else {
      throw SurgeryError(.data, "undo.format", "the file is no undo record", file: path)
    }
    let version = UInt32(
      littleEndianBytes: try file.bytes(at: 8, count: 4)[...])
    guard version == UndoRecord.version else {
      throw SurgeryError(
        .unsupported, "undo.version", "the undo record is of another version", file: path,
        expected: "\(UndoRecord.version)", found: "\(version)")
    }
    guard try file.bytes(at: 12, count: 4).allSatisfy({ $0 == 0 }) else {
      throw UndoRecord.damaged("the header").inFile(path)
    }
    let trailer = try file.bytes(
      at: file.size - UndoRecord.trailerSize, count: Int(UndoRecord.trailerSize))
    let position = UInt64(littleEndianBytes: trailer[0..<8])
    let length = UInt64(littleEndianBytes: trailer[8..<16])
    guard Array(trailer[20..<24]) == UndoRecord.closingMagic, length <= Self.maximumDirectory,
      position >= UndoRecord.headerSize, position <= file.size,
      file.size - position == length + UndoRecord.trailerSize
    else { throw UndoRecord.damaged("the trailer").inFile(path) }
    let directory = try file.bytes(at: position, count: Int(length))
    guard
      unsafe PageCompression.checksum(directory.span.bytes)
        == UInt32(littleEndianBytes: trailer[16..<20])
    else { throw UndoRecord.damaged("the checksum").inFile(path) }
    do throws(SurgeryError) {
      record = try UndoRecord(try JSONValue(parsing: directory))
    } catch { throw error.inFile(path) }
  }

  /// Restores one page of the base.
  ///
  /// - Parameters:
  ///   - page: Its number in the tensor.
  ///   - tensor: The tensor's entry.
  ///   - merged: The merged tensor's bytes of the same elements, where the base is predicted from them.
  ///   - prediction: The prediction.
  /// - Returns: The base's bytes, of the recorded checksum.
  /// - Throws: `undo.other-merged` where the merged bytes are not those recorded, `undo.other-adapter` where the result is
  ///   not the base, `undo.damaged`.
  func page(
    _ page: Int, of tensor: UndoRecord.Tensor, merged: [UInt8]?, prediction: [UInt8]?
  ) throws(SurgeryError) -> [UInt8] {
    let offset = tensor.pages[page]
    guard offset >= UndoRecord.headerSize,
      offset <= file.size - UndoRecord.trailerSize - UInt64(UndoRecord.pageHeaderSize),
      let size = tensor.base.dtype.bytesPerElement
    else { throw ResidualCode.damaged.inFile(file.path) }
    let header = try file.bytes(at: offset, count: UndoRecord.pageHeaderSize)
    let length = UInt64(UInt32(littleEndianBytes: header[0..<4]))
    let start = offset + UInt64(UndoRecord.pageHeaderSize)
    guard length <= file.size - UndoRecord.trailerSize - start else {
      throw ResidualCode.damaged.inFile(file.path)
    }
    if let merged,
      unsafe PageCompression.checksum(merged.span.bytes)
        != UInt32(littleEndianBytes: header[8..<12])
    {
      throw SurgeryError(
        .data, "undo.other-merged", "the tensor is not as the recorded merge left it",
        expected: "the bytes that merge --undo wrote",
        hint: "undo what was merged later first; start from the file that the merge made")
    }
    let count = tensor.elements(of: page).count * size
    let base: [UInt8]
    do throws(SurgeryError) {
      // A page codes no element in more than its size and two LEB128 numbers.
      let code = try PageCompression.expanded(
        try file.bytes(at: start, count: Int(length)), limit: 64 + 4 * count + count / size)
      base = try ResidualCode.decoded(code, predicted: prediction, count: count, size: size)
    } catch { throw error.inFile(file.path) }
    guard
      unsafe PageCompression.checksum(base.span.bytes)
        == UInt32(littleEndianBytes: header[4..<8])
    else {
      throw SurgeryError(
        .data, "undo.other-adapter", "the restored bytes are not those of the base",
        hint: "name the adapters of that merge, in its order")
    }
    return base
  }
}

extension FixedWidthInteger {
  /// The integer whose lowest byte is the first.
  fileprivate init(littleEndianBytes bytes: ArraySlice<UInt8>) {
    self = bytes.reversed().reduce(0) { $0 << 8 | Self($1) }
  }
}
