public import Tensors

/// The container formats of tensors.
public enum FileFormat: String, Sendable, CaseIterable, Codable {
  case safetensors, npy, npz, torch, gguf
  /// The compact adapter format of this program.
  case compact

  /// The format that a file name's extension asks for, if any.
  public init?(extensionOf path: String) {
    let name = path.split(separator: "/").last.map { $0.lowercased() } ?? ""
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return nil }
    switch name[name.index(after: dot)...] {
    case "safetensors": self = .safetensors
    case "npy": self = .npy
    case "npz": self = .npz
    case "pt", "pth", "bin", "ckpt": self = .torch
    case "gguf": self = .gguf
    case "lra": self = .compact
    default: return nil
    }
  }

  /// Refuses a format that is only read, before anything is computed for it.
  ///
  /// - Parameter path: Where the output goes.
  /// - Throws: `output.format`.
  public func requireWritten(at path: String) throws(SurgeryError) {
    guard self == .torch else { return }
    throw SurgeryError(
      .unsupported, "output.format", "files of this format are not written", file: path,
      expected: "safetensors, npz, npy, gguf or lra", found: "PyTorch",
      hint: "name an output that ends in .safetensors")
  }

  /// Recognises a container by its first bytes, never by its name.
  ///
  /// A name that promises another format is refused, since something went wrong before. The extensions of PyTorch promise
  /// little: `.bin` is everybody's.
  ///
  /// - Parameter file: The opened file.
  /// - Returns: The format of what the file holds.
  /// - Throws: `file.empty`, `file.misnamed`, `file.compressed`, or `file.unknown` with what the file seems to be (a git-lfs
  ///   pointer, an HTML page, JSON, …).
  static func detect(_ file: InputFile) throws(SurgeryError) -> FileFormat {
    let format = try byContent(file)
    if format == .gguf || format == .safetensors, let named = FileFormat(extensionOf: file.path),
      named != format, named != .torch
    {
      throw misnamed(file.path, as: named, format, extension: format.rawValue)
    }
    return format
  }

  private static func byContent(_ file: InputFile) throws(SurgeryError) -> FileFormat {
    let head = try file.bytes(at: 0, count: Int(min(file.size, 512)))
    if head.isEmpty {
      throw SurgeryError(
        .data, "file.empty", "the file is empty", file: file.path, hint: "download it again")
    }
    if head.starts(with: Array("GGUF".utf8)) { return .gguf }
    if head.starts(with: [0x93] + Array("NUMPY".utf8)) { return .npy }
    if let wrong = Self.knownStrangers.first(where: { head.starts(with: $0.magic) }) {
      throw Self.stranger(wrong.what, file.path, hint: wrong.hint)
    }
    if head.starts(with: Array("LRA".utf8)) || head.starts(with: [0x8B] + Array("LRA".utf8)) {
      return .compact
    }
    // The header length may imitate any magic, so the brace decides before the two-byte magics do.
    let isSpace: (UInt8) -> Bool = { [0x20, 0x09, 0x0A, 0x0D].contains($0) }
    if head.dropFirst(8).first(where: { !isSpace($0) }) == UInt8(ascii: "{") { return .safetensors }
    if head.starts(with: Array("PK".utf8)) {
      // PyTorch writes its pickle as the first member, so that a name of no known kind does not matter.
      let member = String(decoding: head.dropFirst(30).prefix(128), as: UTF8.self)
      let content = member.contains("data.pkl") ? FileFormat.torch : .npz
      let format = Self.byExtension(file.path, or: content)
      if format == .torch || format == .npz { return format }
      throw content == .torch
        ? Self.misnamed(file.path, as: format, content, extension: "pt")
        : Self.stranger(
          "a zip archive", file.path, hint: "unpack it, and name the file of tensors in it")
    }
    if head[0] == 0x80 { return .torch }
    if head.starts(with: [0x1F, 0x8B]) || head.starts(with: Array("BZh".utf8))
      || head.starts(with: [0xFD] + Array("7zXZ".utf8))
    {
      throw SurgeryError(
        .data, "file.compressed",
        "this is a compressed file (gzip, bzip2 or xz, as R's saveRDS writes)",
        file: file.path,
        hint: "decompress it, or save it from R with safetensors::safe_save_file")
    }
    let format = Self.byExtension(file.path, or: .safetensors)
    // No header has a length of which every byte is a printable character.
    if format == .safetensors, let text = Self.text(head) {
      throw Self.stranger(
        ["{", "["].contains(text.first) ? "JSON" : "a text", file.path,
        found: String(text.prefix(60)),
        hint:
          "name the file of tensors, or the folder that it lies in; where this came in its place, download it again"
      )
    }
    return format
  }

  /// The words that a text begins with, unless the bytes are none.
  private static func text(_ head: [UInt8]) -> String? {
    let isText = head.prefix(16).allSatisfy { byte in
      (0x20..<0x7F).contains(byte) || [0x09, 0x0A, 0x0D].contains(byte)
    }
    guard isText else { return nil }
    return String(decoding: head, as: UTF8.self).split(whereSeparator: \.isWhitespace)
      .joined(separator: " ")
  }

  private static func stranger(
    _ what: String, _ path: String, found: String? = nil, hint: String
  ) -> SurgeryError {
    SurgeryError(
      .data, "file.unknown", "this is \(what), not a file of tensors", file: path, found: found,
      hint: hint)
  }

  private static func misnamed(
    _ path: String, as named: FileFormat, _ format: FileFormat, extension ending: String
  ) -> SurgeryError {
    SurgeryError(
      .data, "file.misnamed", "the name is that of another format, whose magic is not here",
      file: path, expected: named.rawValue, found: format.rawValue, hint: "rename it to .\(ending)")
  }

  private static func byExtension(_ path: String, or fallback: FileFormat) -> FileFormat {
    FileFormat(extensionOf: path) ?? fallback
  }

  private struct Stranger {
    var magic: [UInt8]
    var what: String
    var hint: String

    init(_ magic: String, _ what: String, _ hint: String) {
      self.magic = Array(magic.utf8)
      self.what = what
      self.hint = hint
    }
  }

  private static let knownStrangers = [
    Stranger(
      "version https://git-lfs", "a git-lfs pointer", "fetch the real file with 'git lfs pull'"),
    Stranger("<!DOCTYPE", "an HTML page", "download the file itself, not its page"),
    Stranger("<!doctype", "an HTML page", "download the file itself, not its page"),
    Stranger("<html", "an HTML page", "download the file itself, not its page"),
    Stranger("<?xml", "an XML page", "download the file itself, not its page"),
  ]
}
