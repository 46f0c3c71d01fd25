import Adapters
import Foundation
import Testing

/// What users and recipes say.
struct OptionsTests {
  @Test func absentFieldsAreNothingSaid() throws {
    let empty = try JSONDecoder().decode(AdapterOptions.self, from: Data("{}".utf8))
    #expect(empty == AdapterOptions())
    let text = #"{"dialect":"r-torch","alphas":[{"value":2}],"rankScale":"alpha/sqrt(r)"}"#
    let options = try JSONDecoder().decode(AdapterOptions.self, from: Data(text.utf8))
    #expect(options.dialect == .rTorch)
    #expect(options.rankScale == .alphaOverRootRank)
    let again = try JSONDecoder().decode(
      AdapterOptions.self, from: try JSONEncoder().encode(options))
    #expect(again == options)
  }

  @Test func rulesForAModuleComeBeforeTheOneForAll() throws {
    let files = try TinyFiles()
    let path = try files.write(
      "l.safetensors",
      [
        "a.q.lora_A": .init(2, 4), "a.q.lora_B": .init(6, 2), "k.lora_A": .init(2, 4),
        "k.lora_B": .init(6, 2),
      ])
    var options = AdapterOptions()
    options.alphas = [.init(value: 4), .init(module: "q", value: 6)]
    #expect(try Adapter(opening: path, options: options).facts.scales == [2, 3])
    options.rankScale = RankScale.none
    #expect(try Adapter(opening: path, options: options).facts.scales == [4, 6])
    options.scales = [.init(module: "[ak]", value: 0.5)]
    #expect(try Adapter(opening: path, options: options).facts.scales == [0.5, 6])
  }

  @Test func factorsMayBeNamed() throws {
    let files = try TinyFiles()
    let path = try files.write(
      "p.safetensors",
      [
        "q.first": .init(4, 2), "q.second": .init(2, 6), "k.first": .init(4, 2),
        "k.second": .init(2, 6),
      ])
    var options = AdapterOptions()
    options.dialect = .handWritten
    options.scales = [.init(value: 1)]
    options.pairs = [.init(down: "{}.first", up: "{}.second", tensor: "net.{}.weight")]
    let base: [String: TinyFiles.Tensor] = [
      "net.q.weight": .init(6, 4), "net.k.weight": .init(6, 4),
    ]
    #expect(try files.outcome(path, base, options) == "read: ")
    options.pairs = [.init(down: "x", up: "y", tensor: "z")]
    #expect(try files.outcome(path, base, options) == "adapter.incomplete")
  }
}
