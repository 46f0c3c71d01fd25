import Tensors

/// The members of an npz archive to be written, before anything is placed.
struct NpzPlan {
  /// One member for each tensor of the plan, in its order.
  var members: [ZipMember] = []
  /// The npy header of each.
  private(set) var headers: [[UInt8]] = []
  /// The comment of the archive.
  private(set) var comment: [UInt8] = []
  /// Metadata too long for a comment, with the member that holds it.
  private(set) var metadata: (member: ZipMember, bytes: [UInt8])?

  init(_ plan: TensorFilePlan, method: ZipEntry.Method) throws(SurgeryError) {
    try Self.checkNames(plan.tensors)
    for info in plan.tensors {
      let header = try NpyHeader.bytes(for: info, isRecorded: true)
      let size = UInt64(header.count) + UInt64(info.byteCount)
      members.append(
        ZipMember(
          name: info.name.text + ".npy", method: method,
          comment: NpzRecords.comment(on: info.dtype),
          size: size, largestCompressed: method == .stored ? size : Self.deflateBound(size)))
      headers.append(header)
    }
    guard !plan.metadata.isEmpty else { return }
    let text = NpzRecords.text(of: plan.metadata)
    if text.count <= NpzRecords.maximumComment {
      comment = text
    } else {
      var member = ZipMember(
        name: NpzRecords.metadataMember, method: .stored, size: UInt64(text.count),
        largestCompressed: UInt64(text.count))
      member.crc = CRC32.of(text)
      metadata = (member, text)
    }
  }

  /// Places the member of the metadata, where there is one.
  mutating func placeMetadata(at offset: UInt64) -> ZipMember? {
    metadata?.member.place(at: offset)
    return metadata?.member
  }

  /// Writes the member of the metadata, where there is one.
  func writeMetadata(to file: OutputFile) throws(SurgeryError) {
    guard let metadata else { return }
    try file.write(metadata.member.localHeader + metadata.bytes, at: metadata.member.headerOffset)
  }

  /// The tensors' members and that of the metadata.
  var allMembers: [ZipMember] { members + (metadata.map { [$0.member] } ?? []) }

  /// What deflate makes of `size` bytes at worst: stored blocks of 16 KiB and more, each with 5 bytes, and the stream's end.
  private static func deflateBound(_ size: UInt64) -> UInt64 { size + size >> 11 + 1024 }

  private static func checkNames(_ tensors: [TensorInfo]) throws(SurgeryError) {
    let names = Set(tensors.map(\.name))
    for info in tensors {
      let member = info.name.text + ".npy"
      guard let problem = Self.problem(info.name.text, member: member) else {
        // NumPy finds the member "a.npy" under both keys, "a" and "a.npy".
        guard names.contains(TensorName(member)) else { continue }
        throw failure(info, "\"\(member)\" is a tensor too, and NumPy takes one for the other")
      }
      throw failure(info, problem)
    }
  }

  private static func problem(_ name: String, member: String) -> String? {
    if member.utf8.count > 0xFFFF { return "it is longer than 65,535 bytes" }
    return ZipName.problem(name)
  }

  private static func failure(_ info: TensorInfo, _ problem: String) -> SurgeryError {
    SurgeryError(
      .unsupported, "npz.name", "the tensor's name cannot be that of an npz member: \(problem)",
      tensor: info.name.text, hint: "--rename gives it another")
  }
}

/// Writes the directory and the end of an archive whose members are all placed.
struct ZipDirectoryWriter {
  let members: [ZipMember]
  let comment: [UInt8]
  /// Where the directory begins.
  let offset: UInt64

  private var end: ZipEnd {
    ZipEnd(
      count: UInt64(members.count), directoryOffset: offset,
      directorySize: members.reduce(0) { $0 + $1.directoryEntrySize }, comment: comment)
  }

  /// Where the archive ends.
  var fileSize: UInt64 { end.directoryOffset + end.directorySize + end.size }

  func write(to file: OutputFile) throws(SurgeryError) {
    var bytes: [UInt8] = []
    for member in members { bytes += member.directoryEntry }
    try file.write(bytes + end.bytes, at: offset)
  }
}
