import Synchronization
import Tensors

/// Writes an npz archive of deflated arrays, one after the other, each from front to back.
///
/// Nothing but the encoder's window is held in memory. A member's header is written when its size is known, into the place
/// kept for it. Tensors may come in any order; the directory lists them in that of the plan.
final class DeflatedNpzWriter: TensorFileWriter {
  /// What is being written.
  private struct State {
    var plan: NpzPlan
    var deflater: Deflater
    var output = [UInt8](repeating: 0, count: 1 << 18)
    /// The tensor that is open, and how many of its bytes are written.
    var tensor: Int?
    var position = 0
    var isWritten: [Bool]
    var fileEnd: UInt64 = 0
  }

  private let file: OutputFile
  private let sizes: [Int]
  private let state: Mutex<State>

  let isSequential = true

  init(
    _ plan: TensorFilePlan, level: Int,
    _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    guard 1...9 ~= level else {
      throw SurgeryError(
        .usage, "npz.level", "no such compression level", expected: "1 to 9", found: "\(level)")
    }
    sizes = plan.tensors.map(\.byteCount)
    let layout = try NpzPlan(plan, method: .deflated)
    state = Mutex(
      State(
        plan: layout, deflater: try Deflater(level: level),
        isWritten: Array(repeating: false, count: plan.tensors.count)))
    file = try makeFile(nil)
  }

  func plainOffset(of tensor: Int) -> UInt64? { nil }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    try withState { (state) throws(SurgeryError) in
      if state.tensor != tensor {
        if bytes.isEmpty { return }
        try open(tensor, &state)
      }
      precondition(offset == state.position, "compressed tensors are written from front to back")
      try encode(bytes, isLast: offset + bytes.byteCount == sizes[tensor], &state)
      state.position += bytes.byteCount
      if state.position == sizes[tensor] { try close(tensor, &state) }
    }
  }

  /// The state under its lock, with the error's type kept.
  private func withState(
    _ body: (inout State) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    try state.withLock { (state) throws(SurgeryError) in try body(&state) }
  }

  private func open(_ tensor: Int, _ state: inout State) throws(SurgeryError) {
    precondition(
      state.tensor == nil && !state.isWritten[tensor],
      "compressed tensors are written one after the other, once")
    state.plan.members[tensor].place(at: state.fileEnd)
    state.tensor = tensor
    state.position = 0
    state.deflater.reset()
    let header = state.plan.headers[tensor]
    try unsafe encode(header.span.bytes, isLast: sizes[tensor] == 0, &state)
  }

  private func encode(
    _ bytes: RawSpan, isLast: Bool, _ state: inout State
  ) throws(SurgeryError) {
    guard let tensor = state.tensor else { return }
    var member = state.plan.members[tensor]
    member.crc = CRC32.update(member.crc, bytes)
    try state.deflater.encode(bytes, isLast: isLast, through: &state.output) {
      (piece) throws(SurgeryError) in
      try file.write(piece, at: member.end)
      member.compressedSize += UInt64(piece.byteCount)
    }
    state.plan.members[tensor] = member
  }

  private func close(_ tensor: Int, _ state: inout State) throws(SurgeryError) {
    let member = state.plan.members[tensor]
    try file.write(member.localHeader, at: member.headerOffset)
    state.fileEnd = member.end
    state.isWritten[tensor] = true
    state.tensor = nil
  }

  func finish() throws(SurgeryError) {
    try withState { (state) throws(SurgeryError) in
      for tensor in sizes.indices where !state.isWritten[tensor] {
        precondition(sizes[tensor] == 0, "tensor \(tensor) is not written to its end")
        try open(tensor, &state)
        try close(tensor, &state)
      }
      if let metadata = state.plan.placeMetadata(at: state.fileEnd) {
        try state.plan.writeMetadata(to: file)
        state.fileEnd = metadata.end
      }
      try ZipDirectoryWriter(
        members: state.plan.allMembers, comment: state.plan.comment, offset: state.fileEnd
      ).write(to: file)
    }
  }
}
