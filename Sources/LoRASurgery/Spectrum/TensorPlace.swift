import Tensors

/// Where a tensor sits in a model, read off its name: the layer, and its place within every such layer.
struct TensorPlace: Sendable, Hashable {
  /// The name through its first number, `model.layers.3`; `nil` where there is no number.
  let layer: String?
  /// The rest without `.weight`, later numbers as stars: `mlp.experts.*.w1`.
  let projection: String

  init(_ name: TensorName) {
    var parts = name.text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    if parts.count > 1, parts.last == "weight" { parts.removeLast() }
    guard let first = parts.firstIndex(where: Self.isNumber), first + 1 < parts.count else {
      layer = nil
      projection = parts.joined(separator: ".")
      return
    }
    layer = parts[...first].joined(separator: ".")
    projection = parts[(first + 1)...].map { Self.isNumber($0) ? "*" : $0 }.joined(separator: ".")
  }

  private static func isNumber(_ part: String) -> Bool {
    !part.isEmpty && part.utf8.allSatisfy { (48...57).contains($0) }
  }
}
