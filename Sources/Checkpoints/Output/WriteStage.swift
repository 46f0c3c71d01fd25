import CSystemCalls
public import Tensors

/// Where one worker's results wait until they are written in large parts, past the page cache.
///
/// Bytes that follow one another are collected in memory that is aligned as direct writing wants it; what does not follow
/// sends the earlier ones on their way. A large output so goes to disk while it is computed, and neither fills the page cache nor
/// leaves its flush for the end.
public final class WriteStage {
  /// Runs the writing of a part, which blocks; the worker may let another compute meanwhile.
  public typealias Waiting = (() throws(SurgeryError) -> Void) throws(SurgeryError) -> Void

  private let capacity: Int
  private let waiting: Waiting
  private var memory: PageMemory?
  private var scratch: [UInt8] = []
  private var file: OutputFile?
  /// The staged bytes' positions in the file.
  private var staged: Range<UInt64> = 0..<0

  /// Makes an empty stage; memory is taken when the first bytes for a large file come.
  ///
  /// - Parameters:
  ///   - capacity: Bytes to collect, a multiple of `PageMemory.pageSize`.
  ///   - waiting: Runs a write.
  public init(
    capacity: Int = 2 << 20,
    waiting: @escaping Waiting = { body throws(SurgeryError) in try body() }
  ) {
    precondition(capacity > 0 && capacity % PageMemory.pageSize == 0, "no whole pages: \(capacity)")
    (self.capacity, self.waiting) = (capacity, waiting)
  }

  /// Takes bytes for a file; they may be written later, at the latest by ``flush()``.
  ///
  /// - Parameters:
  ///   - bytes: What to write.
  ///   - target: The file; bytes for a small one are written at once.
  ///   - offset: Position of `bytes` in the file.
  /// - Throws: `io.write` or `output.no-space`, perhaps of earlier bytes.
  func write(_ bytes: RawSpan, to target: OutputFile, at offset: UInt64) throws(SurgeryError) {
    guard target.isDirect else { return try target.write(bytes, at: offset) }
    let memory = try memory(for: target, at: offset)
    var done = 0
    while done < bytes.byteCount {
      let size = min(bytes.byteCount - done, capacity - used)
      memory.store(bytes.extracting(done..<done + size), at: used)
      try append(size)
      done += size
    }
  }

  /// Takes bytes for a file that are made where they wait; otherwise as ``write(_:to:at:)``.
  ///
  /// - Parameters:
  ///   - count: How many bytes.
  ///   - target: The file.
  ///   - offset: Position of the bytes in the file.
  ///   - make: Fills the room for the bytes.
  /// - Throws: `io.write` or `output.no-space`, perhaps of earlier bytes, and what `make` throws.
  func fill(
    _ count: Int, of target: OutputFile, at offset: UInt64,
    _ make: (inout MutableRawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    // Less than a page may stay behind when there is no room.
    guard target.isDirect, count <= capacity - PageMemory.pageSize else {
      return try withScratch(count, make) { (bytes) throws(SurgeryError) in
        try write(bytes, to: target, at: offset)
      }
    }
    let memory = try memory(for: target, at: offset)
    if count > capacity - used { try flushWholePages() }
    try memory.withMutableBytes(used..<used + count, make)
    try append(count)
  }

  /// Lends memory to `make`, and what that made to `body`.
  func withScratch(
    _ count: Int, _ make: (inout MutableRawSpan) throws(SurgeryError) -> Void,
    _ body: (RawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    // Taken out of self for the call: `body` may use the stage.
    var bytes: [UInt8] = []
    swap(&bytes, &scratch)
    defer { swap(&bytes, &scratch) }
    if bytes.count < count { bytes = [UInt8](repeating: 0, count: count) }
    try bytes.withMutableRawSpan(0..<count, make)
    try unsafe body(bytes.span.extracting(0..<count).bytes)
  }

  /// The memory, in which the next byte of a file is the first that is free.
  private func memory(for target: OutputFile, at offset: UInt64) throws(SurgeryError) -> PageMemory
  {
    if file !== target || staged.upperBound != offset {
      try flush()
      (file, staged) = (target, offset..<offset)
    }
    let memory = memory ?? PageMemory(byteCount: capacity)
    self.memory = memory
    return memory
  }

  private func append(_ count: Int) throws(SurgeryError) {
    staged = staged.lowerBound..<staged.upperBound + UInt64(count)
    if used == capacity { try flush() }
  }

  /// Writes what is staged but for the page that is not full yet, which moves to the front.
  private func flushWholePages() throws(SurgeryError) {
    guard let memory else { return }
    let rest = used % PageMemory.pageSize
    let (start, end) = (used - rest, staged.upperBound)
    // A page that is the only one stays as it is: its first byte may be in the middle.
    guard start > 0 else { return }
    staged = staged.lowerBound..<end - UInt64(rest)
    try flush()
    memory.move(start..<start + rest, to: 0)
    staged = staged.upperBound..<end
  }

  /// Writes what is staged.
  ///
  /// - Throws: `io.write` or `output.no-space`.
  public func flush() throws(SurgeryError) {
    guard let file, let memory, !staged.isEmpty else { return }
    let part = Int(staged.lowerBound - origin)..<Int(staged.upperBound - origin)
    try waiting { () throws(SurgeryError) in
      try file.write(memory, part, at: staged.lowerBound)
    }
    staged = staged.upperBound..<staged.upperBound
  }

  /// Bytes of the memory that are taken.
  private var used: Int { Int(staged.upperBound - origin) }

  /// The position in the file of the memory's first byte: as aligned as the memory.
  private var origin: UInt64 {
    staged.lowerBound / UInt64(PageMemory.pageSize) * UInt64(PageMemory.pageSize)
  }
}

/// Memory that begins at the start of a page.
@safe
final class PageMemory {
  /// What direct writing wants memory, positions and lengths to be multiples of; no disk in use has larger blocks.
  static let pageSize = 4096

  private static let hugePageSize = 2 << 20

  private let buffer: UnsafeMutableRawBufferPointer
  private let byteCount: Int

  init(byteCount: Int) {
    self.byteCount = byteCount
    unsafe buffer = .allocate(byteCount: byteCount, alignment: Self.hugePageSize)
    unsafe lora_advise_huge_pages(buffer.baseAddress, byteCount)
  }

  deinit { unsafe buffer.deallocate() }

  /// Copies bytes to a position; a part outside the memory is a programming error.
  func store(_ bytes: RawSpan, at offset: Int) {
    precondition(offset >= 0 && bytes.byteCount <= byteCount - offset)
    unsafe bytes.withUnsafeBytes { source in
      unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[offset...]).copyMemory(from: source)
    }
  }

  /// Moves bytes; parts outside the memory are a programming error.
  func move(_ range: Range<Int>, to offset: Int) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= byteCount && offset >= 0
        && offset <= byteCount - range.count)
    unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[offset...]).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: buffer[range]))
  }

  /// Lends a part for change; one outside the memory is a programming error.
  func withMutableBytes(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
    var span = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[range]).mutableBytes
    try body(&span)
  }

  /// Lends a part; one outside the memory is a programming error.
  func withBytes<Result: ~Copyable, Failure: Error>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
    return unsafe try body(UnsafeRawBufferPointer(rebasing: buffer[range]))
  }
}
