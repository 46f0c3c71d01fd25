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
  private var file: OutputFile?
  /// The staged bytes' positions in the file.
  private var staged: Range<UInt64> = 0..<0

  /// Makes an empty stage; memory is taken when the first bytes for a large file come.
  ///
  /// - Parameters:
  ///   - capacity: Bytes to collect, a multiple of ``PageMemory/pageSize``.
  ///   - waiting: Runs a write.
  public init(
    capacity: Int = 4 << 20,
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
    if file !== target || staged.upperBound != offset {
      try flush()
      (file, staged) = (target, offset..<offset)
    }
    let memory = memory ?? PageMemory(byteCount: capacity)
    self.memory = memory
    var done = 0
    while done < bytes.byteCount {
      let used = Int(staged.upperBound - origin)
      let size = min(bytes.byteCount - done, capacity - used)
      memory.store(bytes.extracting(done..<done + size), at: used)
      staged = staged.lowerBound..<staged.upperBound + UInt64(size)
      done += size
      if used + size == capacity { try flush() }
    }
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

  /// Lends a part; one outside the memory is a programming error.
  func withBytes<Result: ~Copyable, Failure: Error>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
    return unsafe try body(UnsafeRawBufferPointer(rebasing: buffer[range]))
  }
}
