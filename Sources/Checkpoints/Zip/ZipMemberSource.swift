import Synchronization
import Tensors

/// The bytes of a zip member from some position on, checked against the member's checksum.
///
/// A reader that goes from front to back checks as it goes. One that begins elsewhere or goes back has the whole member read
/// once before it gets its first byte; readers of the same member share that verdict.
struct ZipMemberSource: TensorSource {
  /// Whether somebody has read the whole member and found its checksum right.
  private final class Verdict: Sendable {
    private let isKnown: Atomic<Bool>
    private let turn = Mutex<Void>(())

    init(isKnown: Bool) { self.isKnown = Atomic(isKnown) }

    var isGood: Bool { isKnown.load(ordering: .acquiring) }

    func settle() { isKnown.store(true, ordering: .releasing) }

    /// Lets one reader check while the others wait for its verdict.
    func settle(by check: () throws(SurgeryError) -> Void) throws(SurgeryError) {
      let result = turn.withLock { _ in
        Result<Void, SurgeryError> { () throws(SurgeryError) in
          if isGood { return }
          try check()
          settle()
        }
      }
      try result.get()
    }
  }

  let file: InputFile
  private let entry: ZipEntry
  private let start: UInt64
  private let checksCRC: Bool
  /// Whether reading this source from front to back reads the member to its end.
  private var readsWhole: Bool
  private let verdict: Verdict

  /// Describes a member's bytes from `start` on.
  ///
  /// - Parameters:
  ///   - entry: The member.
  ///   - file: The archive.
  ///   - start: Bytes of the member to leave out at its front.
  ///   - checksCRC: False where the writer left every checksum out.
  init(
    _ entry: ZipEntry, in file: InputFile, from start: UInt64 = 0, checksCRC: Bool = true
  ) {
    self.file = file
    self.entry = entry
    self.start = start
    readsWhole = true
    self.checksCRC = checksCRC
    verdict = Verdict(isKnown: !checksCRC)
  }

  /// The same bytes for readers that take only parts of them.
  var partial: Self {
    var copy = self
    copy.readsWhole = false
    return copy
  }

  /// A position only where no checksum must be computed from the bytes on their way.
  var plainOffset: UInt64? {
    entry.method == .stored && !checksCRC ? entry.dataOffset + start : nil
  }

  var isSequential: Bool { entry.method == .deflated }

  func makeReader() -> any TensorReader { Reader(source: self) }

  /// Reads the whole member to check it.
  func verify() throws(SurgeryError) {
    try verdict.settle { () throws(SurgeryError) in
      var stream = try ZipMemberStream(entry, in: file, checksCRC: checksCRC)
      try stream.drain()
    }
  }

  private struct Reader: TensorReader {
    let source: ZipMemberSource
    var stream: ZipMemberStream?

    mutating func read(
      at offset: Int, into target: inout MutableRawSpan
    ) throws(SurgeryError) {
      if target.byteCount == 0 { return }
      let entry = source.entry
      let position = source.start + UInt64(offset)
      let isForward = stream.map { $0.position <= position } ?? (offset == 0)
      let isContiguous = stream.map { $0.position == position } ?? (offset == 0)
      if !source.verdict.isGood,
        !source.readsWhole || !isForward
          || entry.method == .stored && !isContiguous
      {
        try source.verify()
      }
      if entry.method == .stored, source.verdict.isGood {
        stream = nil
        try source.file.read(at: entry.dataOffset + position, into: &target)
        return
      }
      var stream: ZipMemberStream
      if isForward, let current = self.stream {
        stream = current
      } else {
        stream = try ZipMemberStream(entry, in: source.file, checksCRC: source.checksCRC)
      }
      self.stream = nil
      try stream.skip(position - stream.position)
      try stream.read(into: &target)
      if stream.position == entry.size { source.verdict.settle() }
      self.stream = stream
    }
  }
}

extension ZipArchive {
  /// The first bytes of a member, for its header; its checksum is checked only where they are all of it.
  func prefix(of entry: ZipEntry, count: Int) throws(SurgeryError) -> [UInt8] {
    var stream = try ZipMemberStream(entry, in: file, checksCRC: true)
    return try [UInt8](filling: Int(min(entry.size, UInt64(count)))) {
      (target) throws(SurgeryError) in
      try stream.read(into: &target)
    }
  }

  /// All bytes of a small member, checked.
  ///
  /// - Throws: `zip.member-too-large` where it is larger than `limit`.
  func contents(
    of entry: ZipEntry, limit: UInt64, checksCRC: Bool = true
  ) throws(SurgeryError) -> [UInt8] {
    guard entry.size <= limit else {
      throw entry.failure(
        "zip.member-too-large", "the member is too large for what it is",
        expected: "at most \(limit) bytes", found: "\(entry.size, counting: "byte")")
    }
    var stream = try ZipMemberStream(entry, in: file, checksCRC: checksCRC)
    guard entry.size > 0 else {
      try stream.drain()
      return []
    }
    return try [UInt8](filling: Int(entry.size)) { (target) throws(SurgeryError) in
      try stream.read(into: &target)
    }
  }
}
