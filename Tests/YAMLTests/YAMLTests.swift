import Tensors
import Testing
import YAML

/// Parsing, with places and limits; what the texts mean is from the YAML 1.2.2 specification and RFC 8259.
struct YAMLTests {
  private func parse(_ text: String) throws(SurgeryError) -> YAMLNode {
    try YAMLNode(parsing: Array(text.utf8))
  }

  private func refusal(of text: String) -> SurgeryError? {
    do throws(SurgeryError) { _ = try parse(text) } catch { return error }
    return nil
  }

  @Test func blockAndFlow() throws {
    let root = try parse(
      "a: { b: [1, 'two', \"th\\u0072ee\"] }\nc:\n  - yes\n  - ~\n  - |\n    text\n")
    let entries = try #require(root.entries)
    #expect(entries.map(\.key) == ["a", "c"])
    #expect(entries[1].mark == YAMLNode.Mark(line: 2, column: 1))
    let list = try #require(entries[0].value.entries?[0].value.elements)
    #expect(list.map(\.text) == ["1", "two", "three"])
    #expect(list[1].mark == YAMLNode.Mark(line: 1, column: 13))
    let others = try #require(entries[1].value.elements)
    #expect(others[0].flag == true)
    #expect(others[1].isNull && others[1].text == nil)
    #expect(others[2].text == "text\n")
  }

  @Test func quotedWordsAreText() throws {
    let list = try #require(try parse("['true', \"null\", '']").elements)
    #expect(list.map(\.text) == ["true", "null", ""])
    #expect(list.allSatisfy { $0.flag == nil && !$0.isNull })
  }

  @Test func jsonIsYAML() throws {
    let root = try parse("{\"jobs\": [{\"check\": {\"paths\": [\"a\\/b\"]}}], \"n\": -1.5e3}")
    #expect(root.entries?.map(\.key) == ["jobs", "n"])
    #expect(root.entries?[1].value.text == "-1.5e3")
  }

  @Test func anAliasIsWhatItStandsFor() throws {
    let root = try parse("a: &x {r: 8}\nb: *x\n")
    #expect(root.entries?[1].value.entries?[0].value.text == "8")
  }

  @Test func anEmptyDocumentIsNull() throws {
    #expect(try parse("").isNull)
    #expect(try parse("# nothing\n").isNull)
  }

  @Test(arguments: [
    ("a: [1, 2\nb: 3\n", "yaml.syntax", "line 2, column 2"),
    ("a: 1\n\tb: 2\n", "yaml.syntax", "line 2, column 1"),
    ("a: 'open\n", "yaml.syntax", "line 2, column 1"),
    ("a: 1\nb: 2\na: 3\n", "yaml.duplicate", "line 3, column 1"),
    ("a: *nobody\n", "yaml.alias", "line 1, column 4"),
    ("a: &a [*a]\n", "yaml.alias", "line 1, column 8"),
    ("a: !ruby/object 1\n", "yaml.tag", "line 1, column 4"),
    ("a: 1\n---\nb: 2\n", "yaml.documents", "line 2, column 1"),
    ("? [a]\n: 1\n", "yaml.key", "line 1, column 3"),
  ])
  func refusalsNameThePlace(text: String, id: String, place: String) throws {
    let error = try #require(refusal(of: text))
    #expect(error.id == id)
    #expect(error.kind == .data)
    #expect(error.what.contains(place), "\(error)")
  }

  @Test func textThatIsNoUTF8() throws {
    do throws(SurgeryError) {
      _ = try YAMLNode(parsing: [0x61, 0x3A, 0x20, 0xFF, 0xFE])
      Issue.record("read")
    } catch { #expect(error.id == "yaml.text" && error.offset == 3, "\(error)") }
  }

  /// Nine levels of nine references each: 387 million values out of 300 bytes.
  @Test func aBillionLaughs() throws {
    var text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    for level in 1...8 {
      let references = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(references)]\n"
    }
    #expect(refusal(of: text)?.id == "yaml.aliases")
  }

  @Test func deepNesting() {
    #expect(refusal(of: String(repeating: "[", count: 100_000))?.id == "yaml.depth")
    #expect(refusal(of: String(repeating: "- ", count: 5000) + "x")?.id == "yaml.depth")
  }

  /// Whatever the bytes are, there is a value or an error.
  @Test func randomText() {
    let alphabet = Array("ab:-[]{}&*!|>'\"#%@`,?~ \n\t0".utf8)
    var state: UInt64 = 7
    for _ in 0..<3000 {
      var text: [UInt8] = []
      for _ in 0..<24 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        text.append(alphabet[Int(state >> 33) % alphabet.count])
      }
      _ = try? YAMLNode(parsing: text)
    }
  }
}
