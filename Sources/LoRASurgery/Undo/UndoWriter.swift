import Checkpoints
import Synchronization
import Tensors

/// Writes an undo record page by page, from many threads; see ``UndoRecord`` for the bytes.
///
/// Pages come as the workers make them and wait in a spool; in the file they lie in the order of the tensors, so that the same
/// merge makes the same record.
final class UndoWriter: Sendable {
  private let transaction: OutputTransaction
  private let file: OutputFile
  private let spool: SpoolFile
  private let record: Mutex<UndoRecord>
  /// Bytes of each page of each tensor.
  private let sizes: Mutex<[[UInt32]]>

  /// Claims the record's path.
  ///
  /// - Parameters:
  ///   - path: Where the record goes.
  ///   - record: What is known before the first page.
  ///   - replacing: Whether an existing file is replaced.
  ///   - inputs: The files that are read.
  ///   - interruption: Knows the temporary from now on.
  /// - Throws: `output.…`.
  init(
    _ path: String, record: UndoRecord, replacing: Bool, inputs: [InputFile],
    interruption: Interruption
  ) throws(SurgeryError) {
    transaction = try OutputTransaction(
      path: path, kind: .file, replacing: replacing, inputs: inputs, interruption: interruption)
    file = try transaction.makeFile("", size: nil)
    spool = try SpoolFile(beside: path)
    var record = record
    for index in record.tensors.indices {
      record.tensors[index].pages = Array(repeating: 0, count: record.tensors[index].pageCount)
    }
    sizes = Mutex(record.tensors.map { Array(repeating: 0, count: $0.pageCount) })
    self.record = Mutex(record)
  }

  /// Writes one page.
  ///
  /// - Parameters:
  ///   - page: Its number in the tensor.
  ///   - tensor: Position of the tensor in the record.
  ///   - base: The base's bytes.
  ///   - merged: The merged tensor's bytes of the same elements, where the base is predicted from them.
  ///   - prediction: The prediction.
  ///   - size: Bytes of an element of the base.
  /// - Throws: `io.write` or `output.no-space`.
  func write(
    page: Int, of tensor: Int, base: [UInt8], merged: [UInt8]?, prediction: [UInt8]?, size: Int
  ) throws(SurgeryError) {
    let payload = try PageCompression.compressed(
      ResidualCode.encoded(base, predicted: prediction, size: size))
    var bytes: [UInt8] = []
    bytes.reserveCapacity(payload.count + UndoRecord.pageHeaderSize)
    bytes.appendLittleEndian(UInt32(payload.count))
    unsafe bytes.appendLittleEndian(PageCompression.checksum(base.span.bytes))
    bytes.appendLittleEndian(merged.map { unsafe PageCompression.checksum($0.span.bytes) } ?? 0)
    bytes += payload
    let offset = try unsafe spool.append(bytes.span.bytes)
    record.withLock { $0.tensors[tensor].pages[page] = offset }
    sizes.withLock { $0[tensor][page] = UInt32(bytes.count) }
  }

  /// Writes the pages in order and the directory, and flushes all.
  ///
  /// - Returns: Bytes of the record.
  /// - Throws: `io.…` or `output.…`.
  func finish() throws(SurgeryError) -> Int {
    var record = record.withLock { $0 }
    let position = try writePages(of: &record)
    let directory = Array(record.json.utf8)
    try file.write(directory, at: position)
    var trailer: [UInt8] = []
    trailer.appendLittleEndian(position)
    trailer.appendLittleEndian(UInt64(directory.count))
    unsafe trailer.appendLittleEndian(PageCompression.checksum(directory.span.bytes))
    trailer += UndoRecord.closingMagic
    try file.write(trailer, at: position + UInt64(directory.count))
    var header = UndoRecord.magic
    header.appendLittleEndian(UndoRecord.version)
    header.appendLittleEndian(UInt32(0))
    try file.write(header, at: 0)
    try transaction.prepare([file])
    return Int(position) + directory.count + trailer.count
  }

  /// Gives the record its name.
  ///
  /// - Throws: `output.…`.
  func publish() throws(SurgeryError) { try transaction.publish() }

  /// Copies the pages from the spool, and notes where each is now.
  private func writePages(of record: inout UndoRecord) throws(SurgeryError) -> UInt64 {
    let (input, sizes) = (try spool.input(), sizes.withLock { $0 })
    var scratch = [UInt8](repeating: 0, count: 1 << 16)
    var position = UndoRecord.headerSize
    for tensor in record.tensors.indices {
      for (page, size) in sizes[tensor].enumerated() {
        try file.copy(
          from: input, at: record.tensors[tensor].pages[page], count: Int(size), to: position,
          scratch: &scratch)
        record.tensors[tensor].pages[page] = position
        position += UInt64(size)
      }
    }
    return position
  }
}

extension [UInt8] {
  /// Appends an integer, its lowest byte first.
  fileprivate mutating func appendLittleEndian(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}
