import Tensors

/// What is to be said of tensors, said once for all that share it.
enum TensorWarnings {
  /// One line for each warning, with the first tensor that it is about and the number of the others.
  static func lines(
    _ warnings: some Sequence<(tensor: TensorName, text: String?)>
  ) -> [String] {
    var places: [String: Int] = [:]
    var groups: [(text: String, first: TensorName, count: Int)] = []
    for case (let tensor, let text?) in warnings {
      if let place = places[text] {
        groups[place].count += 1
      } else {
        places[text] = groups.count
        groups.append((text, tensor, 1))
      }
    }
    return groups.map { group in
      let others = group.count > 1 ? " and \(group.count - 1) more" : ""
      return "tensor \"\(group.first)\"\(others): \(group.text)"
    }
  }
}
