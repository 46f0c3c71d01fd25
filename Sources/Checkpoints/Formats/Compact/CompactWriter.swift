import Synchronization
import Tensors

/// What a plan of a compact file says beyond its tensors.
public struct CompactPlan: Sendable {
  /// Further members of the header, which may not be called `tensors`, `metadata` or `requires`.
  public var sections: [JSONValue.Member]
  /// How each tensor is encoded.
  public var codecs: [CompactHeader.Codec]

  /// Describes a compact file.
  ///
  /// - Parameters:
  ///   - sections: Further members of the header.
  ///   - codecs: One for each planned tensor.
  public init(sections: [JSONValue.Member], codecs: [CompactHeader.Codec]) {
    self.sections = sections
    self.codecs = codecs
  }
}

/// Writes a compact file page by page; the header, which lists the pages, comes last, and the preamble over zeros.
///
/// Tensors are written in order, each from front to back, so that the same tensors give the same bytes; one page lies in
/// memory.
final class CompactWriter: TensorFileWriter {
  private struct State {
    var position = UInt64(CompactFormat.preambleSize)
    var crc: UInt32 = 0
    var pages: [[CompactHeader.Page]]
    /// Rows that a quantised tensor turned out to have.
    var rows: [Int?]
    /// Bytes of the tensor that is being written which do not fill a page yet.
    var pending: [UInt8] = []
    var pendingTensor = 0
  }

  private let file: OutputFile
  private let plan: TensorFilePlan
  private let codecs: [CompactHeader.Codec]
  private let state: Mutex<State>

  let isSequential = true

  init(
    _ plan: TensorFilePlan, _ makeFile: (UInt64?) throws(SurgeryError) -> OutputFile
  ) throws(SurgeryError) {
    self.plan = plan
    codecs = plan.compact?.codecs ?? plan.tensors.map { _ in .planes }
    precondition(codecs.count == plan.tensors.count, "one codec for each tensor")
    for info in plan.tensors where DType(safetensorsName: info.dtype.name) == nil {
      throw SurgeryError(
        .unsupported, "lra.dtype", "compact files have no such dtype", tensor: info.name.text,
        found: info.dtype.name, hint: "--dtype f32 widens it")
    }
    state = Mutex(
      State(
        pages: plan.tensors.map { _ in [] }, rows: plan.tensors.map { _ in nil }))
    file = try makeFile(nil)
    try file.write([UInt8](repeating: 0, count: CompactFormat.preambleSize), at: 0)
  }

  func plainOffset(of tensor: Int) -> UInt64? { nil }

  func write(
    _ bytes: RawSpan, tensor: Int, at offset: Int, through stage: WriteStage
  ) throws(SurgeryError) {
    precondition(codecs[tensor] == .planes, "a quantised tensor is written as a matrix")
    let info = plan.tensors[tensor]
    let capacity = info.dtype.byteCount(ofElements: CompactFormat.elementsPerPage) ?? 0
    try locked { (state) throws(SurgeryError) in
      state.pendingTensor = tensor
      var done = 0
      while done < bytes.byteCount {
        let count = min(bytes.byteCount - done, capacity - state.pending.count)
        unsafe bytes.extracting(done..<(done + count)).withUnsafeBytes {
          unsafe state.pending.append(contentsOf: $0)
        }
        done += count
        if state.pending.count == capacity || offset + done == info.byteCount {
          try writePage(&state, tensor)
        }
      }
    }
  }

  func write(_ matrix: EncodedMatrix, tensor: Int) throws(SurgeryError) {
    let info = plan.tensors[tensor]
    precondition(
      codecs[tensor] == .quantised && matrix.columns == info.shape.columns
        && matrix.rows <= info.shape.rows, "\(info) cannot hold \(matrix.rows) rows")
    try locked { (state) throws(SurgeryError) in
      state.rows[tensor] = matrix.rows
      for page in matrix.pages { try append(page, to: &state, tensor) }
    }
  }

  private func locked(
    _ body: (inout State) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let result: Result<Void, SurgeryError> = state.withLock { state in
      do throws(SurgeryError) {
        try body(&state)
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  private func writePage(_ state: inout State, _ tensor: Int) throws(SurgeryError) {
    let dtype = plan.tensors[tensor].dtype
    let page = try CompactPlane.encode(
      BytePlanes.split(state.pending, dtype).map {
        .init($0, findsRepeats: !dtype.isFloatingPoint)
      })
    state.pending.removeAll(keepingCapacity: true)
    try append(page, to: &state, tensor)
  }

  private func append(
    _ page: [UInt8], to state: inout State, _ tensor: Int
  ) throws(SurgeryError) {
    state.pages[tensor].append(
      CompactHeader.Page(offset: state.position, size: page.count, crc: CRC32.of(page)))
    let padding =
      (CompactFormat.alignment - page.count % CompactFormat.alignment)
      % CompactFormat.alignment
    let bytes = page + [UInt8](repeating: 0, count: padding)
    try file.write(bytes, at: state.position)
    state.crc = unsafe CRC32.update(state.crc, bytes.span.bytes)
    state.position += UInt64(bytes.count)
  }

  func finish() throws(SurgeryError) {
    try locked { (state) throws(SurgeryError) in
      let text = Array(header(state).canonical.text().utf8)
      guard UInt64(text.count) <= CompactFormat.maximumHeaderSize else {
        throw SurgeryError(
          .unsupported, "lra.header-too-large", "the header would exceed the format's limit",
          expected: "at most \(CompactFormat.maximumHeaderSize) bytes",
          found: "\(text.count, counting: "byte")")
      }
      var stored = try Self.deflated(text)
      if stored.count >= text.count
        || UInt64(text.count) > UInt64(stored.count) * CompactFormat.maximumHeaderRatio
      {
        stored = text
      }
      try file.write(stored, at: state.position)
      let preamble = CompactPreamble(
        headerOffset: state.position, storedHeaderSize: UInt64(stored.count),
        headerSize: UInt64(text.count), headerCRC: CRC32.of(stored),
        bodyCRC: unsafe CRC32.update(state.crc, stored.span.bytes))
      try file.write(preamble.encoded, at: 0)
      try file.truncate(to: state.position + UInt64(stored.count))
    }
  }

  private static func deflated(_ text: [UInt8]) throws(SurgeryError) -> [UInt8] {
    let deflater = try Deflater(level: 9)
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    var result: [UInt8] = []
    try unsafe deflater.encode(text.span.bytes, isLast: true, through: &buffer) { piece in
      unsafe piece.withUnsafeBytes { unsafe result.append(contentsOf: $0) }
    }
    return result
  }

  private func header(_ state: borrowing State) -> JSONValue {
    var tensors: [JSONValue] = []
    for (index, info) in plan.tensors.enumerated() {
      var dimensions = info.shape.dimensions
      if let rows = state.rows[index] { dimensions[0] = rows }
      tensors.append(
        .object([
          .init("codec", .string(codecs[index].rawValue)),
          .init("dtype", .string(info.dtype.name)),
          .init("name", .string(info.name.text)),
          .init(
            "pages",
            .array(state.pages[index].flatMap { [.integer($0.size), .integer(Int($0.crc))] })),
          .init("shape", .array(dimensions.map { .integer($0) })),
        ]))
    }
    var members: [JSONValue.Member] = plan.compact?.sections ?? []
    if !plan.metadata.isEmpty {
      members.append(
        .init("metadata", .object(plan.metadata.map { .init($0.key, .string($0.value)) })))
    }
    members.append(
      .init(
        "requires", .array(codecs.contains(.quantised) ? [.string("quantised")] : [])))
    members.append(.init("tensors", .array(tensors)))
    return .object(members)
  }
}
