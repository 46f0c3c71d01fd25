import Tensors

@testable import Checkpoints

/// A zip archive written out field by field, so that each can be made wrong.
struct ZipBuilder {
  struct Member {
    var name: [UInt8]
    var data: [UInt8]
    var method: UInt16 = 0
    var flags: UInt16 = 0
    /// The bytes in the file; `data` itself where not set.
    var packed: [UInt8]?
    var crc: UInt32?
    var size: UInt64?
    var packedSize: UInt64?
    var localName: [UInt8]?
    var localCRC: UInt32?
    var localSize: UInt64?
    var localExtra: [UInt8] = []
    var extra: [UInt8] = []
    var offset: UInt64?
    var mode: UInt32 = 0
    var comment: [UInt8] = []
    var descriptor: [UInt8] = []
    var gap = 0

    init(_ name: String, _ data: [UInt8]) {
      self.name = Array(name.utf8)
      self.data = data
    }

    /// A member whose bytes are deflated.
    static func deflated(_ name: String, _ data: [UInt8]) throws -> Member {
      var member = Member(name, data)
      member.method = 8
      var packed: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 64)
      try Deflater(level: 6).encode(data.span.bytes, isLast: true, through: &buffer) { piece in
        for index in 0..<piece.byteCount {
          packed.append(piece.unsafeLoad(fromByteOffset: index, as: UInt8.self))
        }
      }
      member.packed = packed
      return member
    }
  }

  var members: [Member]
  var prefix: [UInt8] = []
  var count: UInt16?
  var disk: UInt16 = 0
  var directoryOffset: UInt32?
  var beforeEnd: [UInt8] = []
  var comment: [UInt8] = []
  var trailing: [UInt8] = []

  init(_ members: [Member]) { self.members = members }

  var bytes: [UInt8] {
    var file = prefix
    var directory: [UInt8] = []
    for member in members {
      file += [UInt8](repeating: 0x5A, count: member.gap)
      let offset = UInt64(file.count)
      let packed = member.packed ?? member.data
      let crc = member.crc ?? CRC32.of(member.data)
      let size = member.size ?? UInt64(member.data.count)
      let packedSize = member.packedSize ?? UInt64(packed.count)
      let localName = member.localName ?? member.name
      file += [0x50, 0x4B, 3, 4, 20, 0] + LittleEndian.of(member.flags)
      file += LittleEndian.of(member.method) + [0, 0, 0x21, 0]
      file += LittleEndian.of(member.localCRC ?? crc)
      file += LittleEndian.of(UInt32(member.localSize ?? packedSize))
      file += LittleEndian.of(UInt32(member.localSize ?? size))
      file += LittleEndian.of(UInt16(localName.count))
      file += LittleEndian.of(UInt16(member.localExtra.count))
      file += localName + member.localExtra + packed + member.descriptor
      directory += [0x50, 0x4B, 1, 2, 20, 3, 20, 0] + LittleEndian.of(member.flags)
      directory += LittleEndian.of(member.method) + [0, 0, 0x21, 0] + LittleEndian.of(crc)
      directory += LittleEndian.of(UInt32(packedSize)) + LittleEndian.of(UInt32(size))
      directory += LittleEndian.of(UInt16(member.name.count))
      directory += LittleEndian.of(UInt16(member.extra.count))
      directory += LittleEndian.of(UInt16(member.comment.count)) + [0, 0, 0, 0]
      directory += LittleEndian.of(member.mode << 16)
      directory += LittleEndian.of(UInt32(member.offset ?? offset))
      directory += member.name + member.extra + member.comment
    }
    let start = UInt32(file.count)
    file += directory + beforeEnd
    let counted = count ?? UInt16(members.count)
    file += [0x50, 0x4B, 5, 6] + LittleEndian.of(disk) + [0, 0]
    file += LittleEndian.of(counted) + LittleEndian.of(counted)
    file += LittleEndian.of(UInt32(directory.count))
    file += LittleEndian.of(directoryOffset ?? start)
    file += LittleEndian.of(UInt16(comment.count))
    return file + comment + trailing
  }
}

/// `bytes(_:)` under a name that a property called `bytes` does not hide.
enum LittleEndian {
  static func of(_ value: some FixedWidthInteger) -> [UInt8] { bytes(value) }
}

/// An npy array of version 1.0 with this header and data.
func npy(_ header: String, data: [UInt8] = [], version: [UInt8] = [1, 0]) -> [UInt8] {
  let text = Array(header.utf8)
  let length = version[0] == 1 ? bytes(UInt16(text.count)) : bytes(UInt32(text.count))
  return NpyHeader.magic + version + length + text + data
}

/// The header of a row-major little-endian array.
func npyHeader(_ descr: String, _ shape: String, fortran: Bool = false) -> String {
  "{'descr': '\(descr)', 'fortran_order': \(fortran ? "True" : "False"), 'shape': \(shape), }\n"
}
