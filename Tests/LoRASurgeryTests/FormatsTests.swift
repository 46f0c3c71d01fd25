import Checkpoints
import Foundation
import LoRASurgery
import Tensors
import Testing

/// The same job through every format gives the same bytes (fixtures/formats/make.py: torch wrote the models).
struct FormatsTests {
  /// A form in which a checkpoint can lie on disk.
  enum Form: String, CaseIterable, Sendable {
    case safetensors, npz, deflated, arrays, gguf, sharded, torch

    /// Those that are written.
    static let written = allCases.filter { $0 != .torch }

    func name(_ stem: String) -> String {
      switch self {
      case .safetensors: stem + ".safetensors"
      case .npz: stem + ".npz"
      case .deflated: stem + "-deflated.npz"
      case .arrays: stem + "-arrays"
      case .gguf: stem + ".gguf"
      case .sharded: stem + "-sharded"
      case .torch: stem + ".pt"
      }
    }

    var output: OutputForm {
      switch self {
      case .deflated: OutputForm(compression: 9)
      case .arrays: OutputForm(format: .npy)
      case .sharded: OutputForm(format: .safetensors, maximumShardSize: 2000)
      default: OutputForm()
      }
    }
  }

  private static let models = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("fixtures/formats").path

  private static func convert(_ input: String, to output: String, _ form: OutputForm) throws {
    var request = ConvertRequest(input: input, output: output)
    request.form = form
    _ = try request.run()
  }

  /// Writes `input` in every form, as STEM….
  private static func spread(_ input: String, as stem: String, in folder: TemporaryFolder) throws {
    for form in Form.written {
      try convert(input, to: folder(form.name(stem)), form.output)
    }
    try FileManager.default.copyItem(atPath: input, toPath: folder(Form.torch.name(stem)))
  }

  private static func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  /// A model in every form, a tuned one, and an adapter of the two.
  private static func prepared() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for stem in ["base", "tuned"] { try spread("\(models)/\(stem).pt", as: stem, in: folder) }
    return folder
  }

  private static func extract(
    _ form: Form, in folder: TemporaryFolder, to output: String
  ) throws {
    var ranks = RankOptions()
    ranks.rank = 2
    var request = ExtractRequest(
      base: folder(form.name("base")), tuned: folder(form.name("tuned")), output: output,
      ranks: ranks)
    request.dialect = .kohya
    _ = try request.run(Execution(jobs: 1))
  }

  @Test func readsWhatTorchWrote() throws {
    let folder = try Self.prepared()
    let converted = try Self.bytes(folder("base.safetensors"))
    for form in Form.allCases {
      try Self.convert(
        folder(form.name("base")), to: folder("again-\(form).safetensors"), OutputForm())
      #expect(try Self.bytes(folder("again-\(form).safetensors")) == converted, "\(form)")
    }
    let steps = try #require(try Checkpoint(opening: folder("base.npz"))["layers.1.steps"])
    #expect(try steps.bytes() == [0, 1, 2, 3, 4].flatMap { [$0, 0, 0, 0, 0, 0, 0, 0] })
  }

  @Test func extractsFromEveryForm() throws {
    let folder = try Self.prepared()
    try Self.extract(.safetensors, in: folder, to: folder("adapter.safetensors"))
    let expected = try Self.bytes(folder("adapter.safetensors"))
    for form in Form.allCases {
      let output = folder("adapter-\(form).safetensors")
      try Self.extract(form, in: folder, to: output)
      #expect(try Self.bytes(output) == expected, "\(form)")
    }
  }

  @Test func mergesFromAndIntoEveryForm() throws {
    let folder = try Self.prepared()
    try Self.extract(.safetensors, in: folder, to: folder("adapter.safetensors"))
    // An adapter is one file.
    for form in [Form.npz, .deflated] {
      try Self.convert(
        folder("adapter.safetensors"), to: folder(form.name("lora")), form.output)
    }
    func merge(_ base: Form, _ adapter: String, to output: String) throws {
      let request = MergeRequest(
        .merge, model: folder(base.name("base")),
        adapters: [WeightedAdapter(folder(adapter), weight: 0.5)], output: output)
      _ = try request.run(Execution(jobs: 1))
    }
    try merge(.safetensors, "adapter.safetensors", to: folder("merged.safetensors"))
    let expected = try Self.bytes(folder("merged.safetensors"))
    #expect(try expected != Self.bytes(folder("base.safetensors")))
    for form in Form.allCases {
      try merge(form, "adapter.safetensors", to: folder("from-\(form).safetensors"))
      #expect(try Self.bytes(folder("from-\(form).safetensors")) == expected, "base in \(form)")
    }
    for form in [Form.npz, .deflated] {
      try merge(.safetensors, form.name("lora"), to: folder("by-\(form).safetensors"))
      #expect(try Self.bytes(folder("by-\(form).safetensors")) == expected, "adapter in \(form)")
    }
    for form in [Form.npz, .gguf] {
      try merge(.safetensors, "adapter.safetensors", to: folder(form.name("into")))
      try Self.convert(
        folder(form.name("into")), to: folder("back-\(form).safetensors"), OutputForm())
      #expect(try Self.bytes(folder("back-\(form).safetensors")) == expected, "into \(form)")
    }
    try merge(.arrays, "adapter.safetensors", to: folder("into-arrays"))
    try Self.convert(folder("into-arrays"), to: folder("back-arrays.safetensors"), OutputForm())
    #expect(try Self.bytes(folder("back-arrays.safetensors")) == expected)
  }

  @Test func comparesVerifiesAndChecksEveryForm() throws {
    let folder = try Self.prepared()
    for form in Form.allCases {
      let path = folder(form.name("base"))
      #expect(
        try CompareRequest(folder("base.safetensors"), path).run().equal, "\(form)")
      #expect(
        try !CompareRequest(folder("tuned.safetensors"), path).run().equal)
      #expect(try CheckRequest(paths: [path]).run().isClean, "\(form)")
      let listed = try InspectRequest(paths: [path]).run().files[0].tensors
      #expect(Set(listed.map(\.name)).count == 5, "\(form)")
    }
  }
}
