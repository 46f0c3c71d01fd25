import Tensors

/// The names of zip members, checked so that none can leave a folder or hide what it is.
///
/// Names never become paths in this program; the rules keep it so for whoever unpacks what it passed.
enum ZipName {
  /// Decodes a stored name: UTF-8 where the member says so, else code page 437 as APPNOTE appendix D has it.
  static func decode(_ bytes: ArraySlice<UInt8>, isUTF8: Bool) -> String? {
    if isUTF8 { return String(validating: bytes, as: UTF8.self) }
    var name = ""
    for byte in bytes {
      name.unicodeScalars.append(
        byte < 0x80 ? Unicode.Scalar(byte) : highHalf[Int(byte) - 0x80])
    }
    return name
  }

  /// Says what is wrong with a name, or `nil` where it is safe.
  static func problem(_ name: String) -> String? {
    if name.isEmpty { return "it is empty" }
    if name.unicodeScalars.contains(where: { $0.value < 0x20 || 0x7F...0x9F ~= $0.value }) {
      return "it has a control character"
    }
    if name.utf8.contains(UInt8(ascii: "\\")) { return "it has a backslash" }
    if name.utf8.first == UInt8(ascii: "/") { return "it is an absolute path" }
    let head = Array(name.utf8.prefix(2))
    if head.count == 2, head[1] == UInt8(ascii: ":"),
      Unicode.Scalar(head[0]).properties.isAlphabetic
    {
      return "it begins with a drive"
    }
    for component in name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    {
      if component.isEmpty { return "it has an empty component" }
      if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
        return "it has a component '\(String(component) ?? "..")'"
      }
    }
    return nil
  }

  /// Code page 437 from 0x80 on.
  private static let highHalf = Array(
    """
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{A0}
    """.unicodeScalars)
}
