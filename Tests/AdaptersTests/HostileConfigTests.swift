import Adapters
import Checkpoints
import Tensors
import Testing

/// Configurations that PEFT reads silently, chokes on, or never comes back from (robustness.md, section 7).
struct HostileConfigTests {
  typealias Tensor = TinyFiles.Tensor
  let files: TinyFiles
  let base = ["q.weight": Tensor(6, 4)]
  let pair = ["q.lora_A.weight": Tensor(2, 4), "q.lora_B.weight": Tensor(6, 2)]

  init() throws { files = try TinyFiles() }

  private func outcome(_ fields: String) throws -> String {
    try files.outcome(try files.peft(pair, config: #"{"peft_type":"LORA",\#(fields)}"#), base)
  }

  @Test(arguments: [
    #""r":0"#, #""r":-2"#, #""r":"2""#, #""r":2.0"#, #""r":2.5"#, #""r":true"#, #""r":null"#,
    #""r":[2]"#, #""r":4611686018427387904"#, #""r":3"#, #""r":2,"use_rslora":"false""#,
    #""r":2,"rank_pattern":{"q":-1}"#, #""r":2,"rank_pattern":{"q":"2"}"#,
    #""r":2,"rank_pattern":[2]"#, #""r":2,"rank_pattern":{"q":3}"#, #""r":2,"use_dora":1"#,
    #""r":2,"fan_in_fan_out":"no""#, #""r":2,"modules_to_save":[1]"#,
  ])
  func fieldsOfAWrongTypeOrValue(_ fields: String) throws {
    #expect(try outcome(fields) == "adapter.config")
  }

  @Test(arguments: [
    (#""r":2,"lora_alpha":"8""#, "adapter.bad-alpha"),
    (#""r":2,"lora_alpha":1e999"#, "adapter.bad-alpha"),
    (#""r":2,"lora_alpha":NaN"#, "json.syntax"),
    (#""r":2,"r":2"#, "json.duplicate"),
    (#""r":2,"use_qalora":true"#, "adapter.unsupported"),
    (#""r":2,"alora_invocation_tokens":[1]"#, "adapter.unsupported"),
    (#""r":2,"use_something_new":true"#, "adapter.unsupported"),
    (#""r":2,"something_config":{}"#, "adapter.unsupported"),
    (#""r":2,"modules_to_save":["lm_head"]"#, "adapter.incomplete"),
    (#""r":2,"rank_pattern":{"(q":2}"#, "pattern.syntax"),
    (#""r":2,"rank_pattern":{"(?=q)":2}"#, "pattern.unsupported"),
    (#""r":2,"rank_pattern":{"(a{900}){900}":2}"#, "pattern.unsupported"),
  ])
  func otherRefusals(_ fields: String, _ id: String) throws {
    #expect(try outcome(fields) == id)
  }

  @Test(arguments: ["[]", "null", #""peft""#, "7"])
  func aConfigurationThatIsNoObjectIsNamed(_ text: String) throws {
    let path = try files.peft(pair, config: text)
    let error = #expect(throws: SurgeryError.self) { _ = try Adapter(opening: path) }
    #expect(error?.id == "adapter.config" && error?.found == text)
    #expect(error?.file == path + "/adapter_config.json")
  }

  /// Configurations of which no field can be read.
  @Test func configurationsOfAnotherForm() throws {
    var options = AdapterOptions()
    options.dialect = .peft
    #expect(
      try files.outcome(try files.peft(pair, config: "[]"), base, options) == "adapter.config")
    let named = Dictionary(
      uniqueKeysWithValues: pair.map { ("base_model.model.\($0.key)", $0.value) })
    let embedded = try files.write(
      "e.safetensors", named, metadata: ["lora_adapter_metadata": #"{"peft_type":7}"#])
    #expect(try files.outcome(embedded, base) == "adapter.config")
    let diffusers = try files.write(
      "d.safetensors",
      Dictionary(uniqueKeysWithValues: pair.map { ("unet.\($0.key)", $0.value) }),
      metadata: ["lora_adapter_metadata": "{"])
    #expect(try files.outcome(diffusers, base) == "json.syntax")
    let many = (0...1024).map { #""m.\#($0)":2"# }.joined(separator: ",")
    #expect(
      try outcome(#""r":2,"rank_pattern":{\#(many),"q+":2}"#) == "adapter.unsupported")
  }

  @Test func scalesOfMLXThatAreNoNumbers() throws {
    try files.write(
      "mlx/adapters.safetensors", ["q.lora_a": Tensor(4, 2), "q.lora_b": Tensor(2, 6)])
    try files.folder.write(
      #"{"lora_parameters":{"rank":2,"scale":"10"}}"#, to: "mlx/adapter_config.json")
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: files.folder.path("mlx"))
    }
    #expect(error?.id == "adapter.config" && error?.found == #""10""#)
    #expect(error?.file == files.folder.path("mlx/adapter_config.json"))
    #expect(error?.what.contains("lora_parameters.scale") == true)
  }

  @Test func foldersWithoutTensorsSayWhichNamesCount() throws {
    let config = try files.folder.write(#"{"peft_type":"LORA"}"#, to: "none/adapter_config.json")
    let folder = String(config.dropLast("/adapter_config.json".count))
    let error = #expect(throws: SurgeryError.self) { _ = try Adapter(opening: folder) }
    #expect(error?.id == "adapter.no-weights" && error?.kind == .missingInput)
    #expect(error?.file == folder)
    #expect(error?.expected?.contains("adapter_model.safetensors") == true)
  }

  @Test func aMissingAlphaIsPEFTsDefault() throws {
    #expect(try outcome(#""r":2"#).contains("lora_alpha"))
  }

  @Test func aMissingTypeIsNamed() throws {
    let path = try files.peft(pair, config: #"{"r":2,"lora_alpha":4}"#)
    #expect(try files.outcome(path, base) == "adapter.config")
    var options = AdapterOptions()
    options.dialect = .peft
    #expect(try files.outcome(path, base, options).hasPrefix("read"))
  }

  /// Backtracking would take longer than the world has been.
  @Test func expressionsThatBacktrackForEverDoNot() throws {
    let name = String(repeating: "a_b.c", count: 400)
    let pattern = try Pattern("(?:[a-z_.0-9]+)+#")
    #expect(!pattern.matchesPathEnd(of: name))
    #expect(try Pattern("((a|a_?b)*\\.?c?)*").matchesPathEnd(of: name))
    #expect(try outcome(#""r":2,"rank_pattern":{"(?:[a-z_.0-9]+)+#":5}"#).hasPrefix("read"))
  }

  @Test func tensOfThousandsOfPatternsAreLookedUp() throws {
    let keys = (0..<30_000).map { #""m.\#($0).q":2"# }.joined(separator: ",")
    #expect(try outcome(#""r":2,"rank_pattern":{\#(keys)}"#).hasPrefix("read"))
    let last = #""q":3"#
    #expect(try outcome(#""r":2,"rank_pattern":{\#(keys),\#(last)}"#) == "adapter.config")
  }

  @Test func valuesThatAreNotFiniteAreNamed() throws {
    let path = try files.peft([
      "q.lora_A.weight": Tensor(2, 4, values: [1, 2, 3, .nan, 1, 1, 1, 1]),
      "q.lora_B.weight": Tensor(6, 2),
    ])
    let model = try Checkpoint(opening: try files.write("b.safetensors", base))
    let resolved = try Adapter(opening: path).resolved(against: model)
    let error = #expect(throws: SurgeryError.self) {
      _ = try TensorChange<Float>(resolved.tensors[0].planned(), .merge)
    }
    #expect(error?.id == "adapter.non-finite")
    #expect(error?.found?.contains("element 3") == true)
  }
}
