import Adapters
import Tensors
import Testing

/// Patterns match as Python's `re.match(r"(.*\.)?(KEY)$", path)` does.
struct PatternTests {
  @Test(arguments: [
    ("q_proj", "model.layers.0.self_attn.q_proj", true),
    ("q_proj", "q_proj", true), ("q_proj", "xq_proj", false), ("q_proj", "q_proj.x", false),
    ("layers.1.k", "model.layers.1.k", true), ("layers.1.k", "model.layersX1.k", true),
    ("^layers.1.k", "model.layers.1.k", false), ("^model.layers.1.k", "model.layers.1.k", true),
    (".*\\.v_proj", "model.layers.0.v_proj", true), (".*\\.v_proj", "v_proj", false),
    ("layers\\.(1|2)\\.k", "a.layers.2.k", true), ("layers\\.(1|2)\\.k", "a.layers.3.k", false),
    ("layers.\\d+.[qk]_proj", "m.layers.12.k_proj", true),
    ("layers.[^0-9].k", "m.layers.1.k", false), ("l{2}", "a.ll", true), ("l{3,}", "a.ll", false),
    ("a|b", "x.b", true), ("(?:ab)?c", "x.abc", true), ("q$", "x.q", true), ("", "x.", true),
    ("a{x}", "a{x}", true), ("x.*", "a.x.y.z", true),
  ])
  func pathEnds(_ pattern: String, _ path: String, _ matches: Bool) throws {
    #expect(try Pattern(pattern).matchesPathEnd(of: path) == matches)
  }

  @Test func searchAndReplace() throws {
    #expect(try Pattern("layers\\.1").matches(in: "model.layers.12"))
    #expect(try !Pattern("layers$").matches(in: "model.layers.1"))
    #expect(try Pattern("^model\\.").replacing(in: "model.model.x", with: "") == "model.x")
    #expect(try Pattern("\\d+").replacing(in: "a12.b3", with: "N") == "aN.bN")
  }

  /// What Python matches and this does not is refused, not taken for something else.
  @Test(arguments: [
    "\\bq", "q\\1", "[\\D]", String(repeating: "(", count: 1000),
    String(repeating: "a|", count: 100_000),
  ])
  func unsupported(_ pattern: String) {
    let error = #expect(throws: SurgeryError.self) { try Pattern(pattern) }
    #expect(error?.id == "pattern.unsupported" && error?.kind == .unsupported)
  }

  @Test(arguments: ["(", ")", "*a", "[a", "a\\", "a{3,1}", "[z-a]"])
  func malformed(_ pattern: String) {
    #expect(throws: (any Error).self) { try Pattern(pattern) }
  }
}
