import LoRASurgery
import Tensors

/// What inspect found, as people read it.
struct InspectText: Sendable {
  /// Whether the elements are described.
  let stats: Bool
  /// Whether the tensors of adapters are listed.
  let verbose: Bool
  /// Columns of a line.
  let width: Int

  /// The lines of one checkpoint or adapter.
  func lines(of file: InspectedFile) -> [String] {
    let bytes = file.tensors.reduce(0) { $0 + $1.bytes }
    let parameters = file.tensors.reduce(0) { $0 + $1.shape.elementCount }
    var lines = [
      "\(DisplayText.escaped(file.path)): \(file.format)"
        + (file.shards > 1 ? ", \(file.shards, counting: "shard")" : "")
        + ", \(Quantities.counted(file.tensors.count, "tensor")), "
        + "\(Quantities.counted(parameters, "parameter")), \(Quantities.bytes(bytes))"
    ]
    if let adapter = file.adapter {
      lines += AdapterText(adapter, verbose: verbose).lines(width: width)
    }
    for (key, value) in file.metadata.sorted(by: { $0.key < $1.key }) {
      let name = DisplayText.escaped(key)
      let room = max(40, width - name.count - 5)
      lines.append("  \(name): \(DisplayText.escaped(value, limit: room))")
    }
    if file.adapter != nil, !verbose { return lines }
    var table = TextTable(
      [("tensor", .left), ("dtype", .left), ("shape", .left), ("size", .right)]
        + (stats
          ? [
            ("min", .right), ("max", .right), ("mean", .right), ("norm", .right), ("NaN", .right),
            ("inf", .right),
          ] : []))
    for tensor in file.tensors {
      var row = [
        tensor.name.text, tensor.dtype, tensor.shape.description, Quantities.bytes(tensor.bytes),
      ]
      if stats {
        let facts = tensor.stats
        row += [facts?.minimum, facts?.maximum, facts?.mean, facts?.norm].map {
          $0.map { Quantities.significant($0) } ?? "-"
        }
        row += [facts?.nan, facts?.infinite].map { $0.map(String.init) ?? "-" }
      }
      table.add(row)
    }
    return lines + table.lines(width: width)
  }
}
