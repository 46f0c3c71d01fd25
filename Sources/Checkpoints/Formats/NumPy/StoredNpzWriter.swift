import Synchronization
import Tensors

/// Writes an npz archive of stored arrays, in parallel.
///
/// Every position is known beforehand: data begins at multiples of 64 bytes, so that it can be mapped. Only checksums wait:
/// each written block leaves its own, and `finish` combines them, whatever the order of writing was.
final class StoredNpzWriter: TensorFileWriter {
  /// The checksum of one written block.
  private struct Piece {
    var offset: Int
    var count: Int
    var crc: UInt32
  }

  private let file: OutputFile
  private let plan: NpzPlan
  private let sizes: [Int]
  private let directoryOffset: UInt64
  private let pieces: Mutex<[[Piece]]>

  let isSequential = false

  init(
    _ plan: TensorFilePlan, _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    var layout = try NpzPlan(plan, method: .stored)
    var position: UInt64 = 0
    for index in layout.members.indices {
      layout.members[index].place(at: position)
      position = layout.members[index].end
    }
    let metadata = layout.placeMetadata(at: position)
    if let metadata { position = metadata.end }
    directoryOffset = position
    sizes = plan.tensors.map(\.byteCount)
    self.plan = layout
    pieces = Mutex(Array(repeating: [], count: plan.tensors.count))
    file = try makeFile(
      ZipDirectoryWriter(
        members: layout.allMembers, comment: layout.comment, offset: directoryOffset
      ).fileSize)
    for (member, header) in zip(layout.members, layout.headers) {
      try file.write(header, at: member.dataOffset)
    }
    try layout.writeMetadata(to: file)
  }

  /// Always `nil`: bytes that the kernel copies would leave no checksum.
  func plainOffset(of tensor: Int) -> UInt64? { nil }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    let piece = Piece(offset: offset, count: bytes.byteCount, crc: CRC32.update(0, bytes))
    try stage.write(bytes, to: file, at: position(of: tensor) + UInt64(offset))
    pieces.withLock { $0[tensor].append(piece) }
  }

  private func position(of tensor: Int) -> UInt64 {
    plan.members[tensor].dataOffset + UInt64(plan.headers[tensor].count)
  }

  func finish() throws(SurgeryError) {
    var plan = plan
    let pieces = pieces.withLock { $0 }
    for index in plan.members.indices {
      var crc = CRC32.of(plan.headers[index])
      var position = 0
      for piece in pieces[index].sorted(by: { ($0.offset, $0.count) < ($1.offset, $1.count) }) {
        precondition(
          piece.offset == position, "byte \(position) of tensor \(index) is not written once")
        crc = CRC32.combine(crc, piece.crc, secondCount: piece.count)
        position += piece.count
      }
      precondition(position == sizes[index], "tensor \(index) is not written to its end")
      plan.members[index].crc = crc
      try file.write(plan.members[index].localHeader, at: plan.members[index].headerOffset)
    }
    try ZipDirectoryWriter(
      members: plan.allMembers, comment: plan.comment, offset: directoryOffset
    ).write(to: file)
  }
}
