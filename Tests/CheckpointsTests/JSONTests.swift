import Glibc
import Tensors
import Testing

@testable import Checkpoints

@Suite struct JSONTests {
  private func parse(_ text: String) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8))
  }

  @Test(arguments: [
    "null", "true", "false", "0", "-0", "1.5e+10", "-1E-2", "\"\"", "[]", "{}", " [1 , 2]\n",
    "\"\\u00e9\\ud83d\\ude00\\n\\/\"", "{\"a\":{\"b\":[null]}}", "\"\u{7F}\"",
  ])
  func accepts(text: String) throws { _ = try parse(text) }

  @Test(arguments: [
    "", " ", "nul", "truefalse", "TRUE", "-", "+1", "01", "-01", "1.", ".1", "1e", "1e+", "0x1",
    "Infinity", "[", "[1,]", "[,1]", "[1 2]", "{\"a\":1,}", "{\"a\":}", "{a:1}", "{\"a\" 1}", "\"a",
    "\"\\\"", "\"\\", "\"\\u00g0\"", "\"\\u00\"", "\"\\a\"", "\"\t\"", "1 2", "{}[]", "//\n1",
    "\u{FEFF}1",
    "\"\\u+123\"", "1_000", "\u{A0}1",
  ])
  func refuses(text: String) throws {
    #expect(try failure { _ = try parse(text) }.id == "json.syntax")
  }

  @Test func namesItsOtherRefusals() throws {
    #expect(try failure { _ = try parse("{\"a\":1,\"\\u0061\":2}") }.id == "json.duplicate")
    #expect(try failure { _ = try parse("\"\\ud800\"") }.id == "json.utf8")
    #expect(try failure { _ = try JSONValue(parsing: [0x22, 0x80, 0x22]) }.id == "json.utf8")
    for open in ["[", "{\"a\":"] {
      let deep = String(repeating: open, count: 100_000)
      #expect(try failure { _ = try parse(deep) }.id == "json.depth")
    }
    #expect(try failure { _ = try parse("[1, x]") }.offset == 4)
  }

  @Test func keysAreBytes() throws {
    let value = try parse("{\"\u{E9}\":1,\"e\u{301}\":2}")
    #expect(value["\u{E9}"]?.integer == 1 && value["e\u{301}"]?.integer == 2)
    #expect(value["x"] == nil && JSONValue.null["x"] == nil)
  }

  @Test func valuesByType() throws {
    let value = try parse("[true,1.0,12,\"x\",null,9223372036854775808,[],{}]")
    let elements = try #require(value.elements)
    #expect(elements[0].flag == true && elements[0].integer == nil && elements[0].double == nil)
    #expect(elements[1].integer == nil && elements[1].double == 1)
    #expect(elements[2].integer == 12 && elements[2].text == nil && elements[2].flag == nil)
    #expect(elements[3].text == "x" && elements[4].isNull)
    #expect(elements[5].integer == nil && elements[5].double == 0x1p63)
    #expect(elements[6].elements == [] && elements[7].members == [])
  }

  @Test func writesWhatItReads() throws {
    let text =
      #"{"b":[1,-2.50,1e5,true,false,null],"a":{"k":"é\"\\\n\t\r\b\f\u0001😀"},"e":[],"o":{}}"#
    let value = try parse(text)
    #expect(value.text() == text)
    #expect(try parse(value.text(indent: 2)) == value)
    #expect(try parse("[{\"a\":1}]").text(indent: 2) == "[\n  {\n    \"a\": 1\n  }\n]")
    #expect(JSONValue.double(3).text() == "3" && JSONValue.double(0.1).text() == "0.1")
    #expect(JSONValue.double(1e300).double == 1e300 && JSONValue.integer(-4).text() == "-4")
    #expect(try parse(JSONValue.string("\u{7F}\0").text()).text == "\u{7F}\0")
  }

  @Test func filesAreLimited() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("x.json", Array("{\"a\":[1,]}".utf8))
    let error = try failure { _ = try JSONValue(readingFile: path) }
    #expect(error.id == "json.syntax" && error.file == path)
    let file = try #require(unsafe fopen(path, "r+"))
    #expect(unsafe ftruncate(fileno(file), 100_000_001) == 0)
    unsafe fclose(file)
    #expect(try failure { _ = try JSONValue(readingFile: path) }.id == "json.too-large")
    #expect(
      try failure { _ = try JSONValue(readingFile: folder.path("none")) }.kind == .missingInput)
  }
}
