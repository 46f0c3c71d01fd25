import Checkpoints
import Synchronization
import Tensors

/// Writes an undo record page by page, from many threads; see ``UndoRecord`` for the bytes.
final class UndoWriter: Sendable {
  private let transaction: OutputTransaction
  private let file: OutputFile
  private let end = Atomic<UInt64>(UndoRecord.headerSize)
  private let record: Mutex<UndoRecord>
  private let inputs: [InputFile]

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
    var record = record
    for index in record.tensors.indices {
      record.tensors[index].pages = Array(repeating: 0, count: record.tensors[index].pageCount)
    }
    self.record = Mutex(record)
    self.inputs = inputs
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
    let offset = end.wrappingAdd(UInt64(bytes.count), ordering: .relaxed).oldValue
    try file.write(bytes, at: offset)
    record.withLock { $0.tensors[tensor].pages[page] = offset }
  }

  /// Writes the directory and gives the record its name.
  ///
  /// - Returns: Bytes of the record.
  /// - Throws: `io.…` or `output.…`.
  func commit() throws(SurgeryError) -> Int {
    let directory = Array(record.withLock { $0.json }.utf8)
    let position = end.load(ordering: .sequentiallyConsistent)
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
    try transaction.commit([file], inputs: inputs)
    return Int(position) + directory.count + trailer.count
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
