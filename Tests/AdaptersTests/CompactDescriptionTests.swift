import Adapters
import LinearAlgebra
import Tensors
import Testing

@testable import Checkpoints

/// Descriptions that no writer writes, in files whose checksums agree: each is refused by name.
struct CompactDescriptionTests {
  /// A description's part, and what is said of it.
  struct Case: CustomTestStringConvertible, Sendable {
    var id: String
    var says: String
    var json: String

    var testDescription: String { says }

    /// A mistake in the description.
    static func wrong(_ says: String, _ json: String) -> Self {
      Self(id: "lra.adapter", says: says, json: json)
    }

    /// A word that a newer version may know.
    static func unknown(_ says: String, _ json: String) -> Self {
      Self(id: "lra.unknown", says: says, json: json)
    }
  }

  /// Opens a file of one tensor of 40 elements with another description.
  private func refusal(
    adapter: String? = nil, provenance: String? = nil
  ) throws -> (error: SurgeryError?, path: String) {
    let workshop = try CompactWorkshop()
    let values = try workshop.tensor("d", [40], .f32, (0..<40).map(Double.init))
    let path = try workshop.write(
      workshop.adapter([("m", try FullDifference(Factor(values)), 1)]))
    let file = try InputFile(path)
    var image = try CompactImage(try file.bytes(at: 0, count: Int(file.size)))
    var members = try image.json.members ?? []
    for (key, text) in [("adapter", adapter), ("provenance", provenance)] {
      guard let text else { continue }
      let value = try JSONValue(parsing: Array(Self.withViews(text).utf8))
      let index = try #require(members.firstIndex { $0.key == key })
      members[index].value = value
    }
    image.header = Array(JSONValue.object(members).canonical.text().utf8)
    try workshop.folder.write(image.sealed, to: "x.lra")
    let changed = workshop.folder.path("x.lra")
    return (#expect(throws: SurgeryError.self) { _ = try Adapter(opening: changed) }, changed)
  }

  private func expect(_ refused: Case, module: String? = nil, adapter: String) throws {
    let (error, path) = try refusal(adapter: adapter)
    #expect(error?.id == refused.id, "\(String(describing: error))")
    #expect(error?.kind == (refused.id == "lra.unknown" ? .unsupported : .data))
    #expect(error?.file == path)
    #expect(error?.tensor == module)
    #expect(error?.what.contains(refused.says) == true, "\(String(describing: error))")
  }

  /// A text in which `"@RxC"` stands for a matrix made of the first elements of the tensor.
  private static func withViews(_ text: String) -> String {
    text.replacing(/"@(\d+)x(\d+)"/) { match in
      let (rows, columns) = (Int(match.1) ?? 0, Int(match.2) ?? 0)
      return
        #"{"tensor":0,"view":[["rows",0,\#(rows * columns)],["reshape",\#(rows),\#(columns)]]}"#
    }
  }

  private static let target = #"{"module":"m","parameter":"weight"}"#

  @Test(arguments: [
    Case.wrong(
      "rows_per_output does not divide",
      #"{"kind":"reinterpreted","factors":{"up":"@4x2","down":"@2x4"},"rows_per_output":3}"#),
    .unknown("a form of factors", #"{"kind":"low-rank","form":"cubic","up":"@4x2","down":"@2x4"}"#),
    .wrong(
      "a kernel does not fit its factor",
      #"{"kind":"low-rank","form":"convolution","kernel":[3],"up":"@4x2","down":"@2x4"}"#),
    .wrong(
      "a kernel is too large",
      #"""
      {"kind":"low-rank","form":"convolution","kernel":[2147483647,2147483647,2147483647],
      "up":"@4x2","down":"@2x4"}
      """#),
    .wrong(
      "the blocks do not make up the values",
      #"""
      {"kind":"patterned","algorithm":"c3a","layout":"circulant","blocks":[1,1,3],
      "values":"@1x4"}
      """#),
    .wrong(
      "places and values differ in number",
      #"""
      {"kind":"patterned","algorithm":"shira","layout":"sparse","rows":"@1x3",
      "columns":"@1x4","values":"@1x4"}
      """#),
    .unknown(
      "a layout",
      #"{"kind":"patterned","algorithm":"x","layout":"woven","values":"@1x4"}"#),
    .unknown(
      "an axis",
      #"""
      {"kind":"decomposed","axis":"depth","convention":"peft","magnitude":"@4x1",
      "inner":{"kind":"low-rank","up":"@4x2","down":"@2x4"}}
      """#),
    .unknown(
      "a convention",
      #"""
      {"kind":"decomposed","axis":"outputs","convention":"geneva","magnitude":"@4x1",
      "inner":{"kind":"low-rank","up":"@4x2","down":"@2x4"}}
      """#),
    .wrong(
      "must be additive inside",
      #"""
      {"kind":"decomposed","axis":"outputs","convention":"peft","magnitude":"@4x1",
      "inner":{"kind":"reflections","directions":"@4x2"}}
      """#),
    .wrong(
      "kernel_size does not divide",
      #"""
      {"kind":"decomposed","axis":"inputs","kernel_size":3,"convention":"lycoris",
      "magnitude":"@1x1","inner":{"kind":"low-rank","up":"@4x2","down":"@2x4"}}
      """#),
    .unknown("an axis", #"{"kind":"diagonal","axis":"depth","values":"@4x1"}"#),
    .unknown(
      "a side",
      #"{"kind":"orthogonal","side":"both","storage":"triangle","map":"minus-plus"}"#),
    .unknown(
      "a storage",
      #"{"kind":"orthogonal","side":"inputs","storage":"attic","map":"minus-plus"}"#),
    .unknown(
      "a map", #"{"kind":"orthogonal","side":"inputs","storage":"triangle","map":"treasure"}"#),
    .wrong(
      "a series has too many terms",
      #"{"kind":"orthogonal","side":"inputs","storage":"triangle","map":"neumann","terms":1025}"#),
    .unknown(
      "a rule for square experts",
      #"{"kind":"stacked","up":"@4x4","down":"@4x4","rank":2,"square":"round"}"#),
    .wrong(
      "stacked factors do not fit",
      #"{"kind":"stacked","up":"@4x4","down":"@5x4","rank":2,"square":"straight"}"#
    ),
    .wrong(
      "a part does not fit its rows",
      #"{"kind":"parted","rows":8,"parts":[{"rows":[0,5],"update":{"up":"@4x2","down":"@2x4"}}]}"#),
    .wrong(
      "a rectangle does not fit",
      #"""
      {"kind":"tiled","algorithm":"x","rank":2,"rows":8,"columns":4,"tiles":
      [{"rows":[0,5],"columns":[0,4],"update":{"up":"@4x2","down":"@2x4"}}]}
      """#),
    .wrong(
      "a range ends before it begins",
      #"""
      {"kind":"tiled","algorithm":"x","rank":2,"rows":8,"columns":4,"tiles":
      [{"rows":[5,1],"columns":[0,4],"update":{"up":"@4x2","down":"@2x4"}}]}
      """#),
    .wrong(
      "logits do not fit the bank",
      #"""
      {"kind":"vector-bank","bank":"@4x2","rank":2,
      "down":{"kind":"logits","logits":"@4x3","most":2}}
      """#),
    .wrong(
      "weights do not fit their indices",
      #"""
      {"kind":"vector-bank","bank":"@4x2","rank":2,
      "down":{"kind":"chosen","indices":"@4x2","weights":"@4x2"}}
      """#),
    .unknown(
      "a choice of vectors",
      #"{"kind":"vector-bank","bank":"@4x2","rank":2,"down":{"kind":"dice"}}"#),
    .unknown("a convention", #"{"kind":"butterfly","convention":"geneva"}"#),
    .wrong("too many stages", #"{"kind":"butterfly","convention":"peft","stages":31}"#),
    .wrong("a member is missing", #"{"kind":"difference"}"#),
    .wrong("a member is no string", #"{"kind":7}"#),
    .wrong("a member is no list", #"{"kind":"rows","indices":7}"#),
    .wrong(
      "a view is no list", #"{"kind":"difference","difference":{"tensor":0,"view":"transpose"}}"#),
    .wrong(
      "a step of a view has no name",
      #"{"kind":"difference","difference":{"tensor":0,"view":[[1,2]]}}"#),
    .wrong(
      "a step of a view leaves its matrix",
      #"{"kind":"difference","difference":{"tensor":0,"view":[["order",40]]}}"#),
  ])
  func updates(_ refused: Case) throws {
    try expect(
      refused, module: "m",
      adapter: #"{"modules":[{"name":"m","scale":1,"target":\#(Self.target),"update":"#
        + #"\#(refused.json)}],"replacements":[]}"#)
  }

  /// Depth and length cost nothing to write, and a reader's stack and time to follow.
  @Test func nestingAndViewsAreBounded() throws {
    let shell = #"{"kind":"decomposed","axis":"outputs","convention":"peft","inner":"#
    var nested = String(repeating: shell, count: 5)
    nested += #"{"kind":"strange"}"#
    nested += String(repeating: "}", count: 5)
    try updates(.wrong("nested too deep", nested))
    let steps = [String](repeating: #"["transpose"]"#, count: 17).joined(separator: ",")
    let view = #"{"kind":"difference","difference":{"tensor":0,"view":[\#(steps)]}}"#
    try updates(.wrong("at most 16 steps", view))
  }

  @Test(arguments: [
    Case.wrong("a change is repeated too often", #""repetitions":17"#),
    .wrong("a number is out of range", #""repetitions":0"#),
    .wrong("the extraction lacks a norm", #""extraction":{"delta_norm":1}"#),
    .wrong("the extraction lacks a norm", #""extraction":{"delta_norm":-1,"residual_norm":0}"#),
    .wrong("a member is no finite number", #""alpha":"2""#),
    .wrong("a member is no flag", #""optional":1"#),
    .wrong("a member is no list", #""enlarged":7"#),
  ])
  func modules(_ refused: Case) throws {
    try expect(
      refused, module: "m",
      adapter: #"{"modules":[{"name":"m","scale":1,"target":\#(Self.target),"update":"#
        + #"{"kind":"difference","difference":"@4x4"},\#(refused.json)}],"#
        + #""replacements":[]}"#)
  }

  @Test(arguments: [
    Case.unknown("a spelling", #"{"module":"m","parameter":"weight","spelling":"dyslexic"}"#),
    .unknown("a component", #"{"module":"m","parameter":"weight","component":"carburettor"}"#),
    .wrong(
      "a number is out of range",
      #"{"module":"m","parameter":"weight","component":"text-encoder"}"#),
    .wrong(
      "an alternative is no string", #"{"module":"m","parameter":"weight","alternatives":[7]}"#),
  ])
  func targets(_ refused: Case) throws {
    try expect(
      refused,
      adapter: #"{"modules":[],"replacements":[{"reason":"bias","target":\#(refused.json),"#
        + #""tensor":0}]}"#)
  }

  @Test(arguments: [
    Case.wrong("the configuration is no JSON", #"{"config":"{"}"#),
    .wrong("a warning is no string", #"{"warnings":[7]}"#),
    .wrong("no list of at most 64", #"{"fingerprint":{}}"#),
    .wrong(
      "an impossible tensor",
      #"{"fingerprint":[{"crc":-1,"dtype":"F32","name":"d","shape":[4]}]}"#),
    .wrong(
      "an impossible tensor",
      #"{"fingerprint":[{"crc":1,"dtype":"F33","name":"d","shape":[4]}]}"#),
  ])
  func provenance(_ refused: Case) throws {
    let (error, path) = try refusal(provenance: refused.json)
    #expect(error?.id == refused.id)
    #expect(error?.file == path)
    #expect(error?.what.contains(refused.says) == true, "\(String(describing: error))")
  }

  @Test func aFileWithoutAnAdapterIsNone() throws {
    let files = try TinyFiles()
    let path = try files.write("m.safetensors", ["q.weight": .init(6, 4)])
    var options = AdapterOptions()
    options.dialect = .compact
    let error = #expect(throws: SurgeryError.self) {
      _ = try Adapter(opening: path, options: options)
    }
    #expect(error?.id == "adapter.not-adapter")
    #expect(error?.file == path)
  }

  /// A lossy or lossless file is made for one base; another is told by the first tensor that differs.
  @Test(arguments: [
    (["q.weight": [6, 5]], "[6, 5]"), (["k.weight": [6, 4]], "no such tensor"),
    (["q.weight": [6, 4]], "other values"),
  ])
  func anotherBaseIsNamed(_ shapes: [String: [Int]], _ found: String) throws {
    let files = try TinyFiles()
    func base(_ name: String, _ shapes: [String: [Int]], value: Float) throws -> Checkpoint {
      try Checkpoint(
        opening: try files.write(
          name,
          shapes.mapValues { shape in
            var tensor = TinyFiles.Tensor(
              values: [Float](repeating: value, count: shape.reduce(1, *)))
            tensor.shape = shape
            return tensor
          }))
    }
    let own = try base("own.safetensors", ["q.weight": [6, 4]], value: 1)
    let fingerprint = try BaseFingerprint(of: own, tensors: ["q.weight"])
    try fingerprint.check(own, adapter: "a.lra")
    let error = #expect(throws: SurgeryError.self) {
      try fingerprint.check(try base("other.safetensors", shapes, value: 2), adapter: "a.lra")
    }
    #expect(error?.id == "adapter.wrong-base")
    #expect(error?.file == "a.lra")
    #expect(error?.tensor == "q.weight")
    #expect(error?.found?.contains(found) == true)
  }
}
