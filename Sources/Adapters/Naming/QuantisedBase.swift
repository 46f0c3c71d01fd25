package import Checkpoints
package import Tensors

/// Recognises bases whose tensors are not the weights themselves but codes of them.
///
/// Dequantising will go here: updates would then apply to the decoded weights.
package enum QuantisedBase {
  /// Names beside a weight that only quantised models have: bitsandbytes, float8 with scales, GPTQ and AWQ.
  private static let companions = [
    "weight_scale", "weight_scale_inv", "scale_weight", "weight.absmax", "weight.quant_map", "SCB",
    "qweight", "qzeros", "weight_scale_2",
  ]
  /// Under which names modules keep the codes of their weight: GPTQ and AWQ, compressed-tensors, HQQ, quanto.
  private static let codesOfWeight = ["qweight", "weight_packed", "W_q", "weight._data"]

  /// The tensors that may hold the codes of what a reference names, which a quantised base lacks.
  static func codes(of reference: TargetReference) -> [TargetReference] {
    // Stacked experts in MXFP4 keep theirs as `gate_up_proj_blocks`.
    let blocks = ([reference.parameter] + reference.alternatives).map { "\($0)_blocks" }
    return (reference.parameter == "weight" ? codesOfWeight : blocks).map { name in
      var codes = reference
      codes.parameter = name
      return codes
    }
  }

  /// Fails where a tensor to change has a companion that tells its codes' scale.
  ///
  /// - Parameters:
  ///   - tensor: The name of the tensor.
  ///   - base: The checkpoint that it is of.
  /// - Throws: `merge.quantised`.
  package static func refuse(
    _ tensor: TensorName, in base: Checkpoint
  ) throws(SurgeryError) {
    let name = tensor.text
    let module = name.hasSuffix(".weight") ? String(name.dropLast(7)) : name
    for companion in companions {
      guard let found = base[TensorName("\(module).\(companion)")] else { continue }
      var error = error("merge.quantised", found: "\(found.name) beside it")
      (error.file, error.tensor) = (base.path, name)
      throw error
    }
  }

  /// The error for a base whose tensor holds codes of the weights, or integers (exit status 69).
  static func error(
    _ id: String = "adapter.quantised-base", found: String
  ) -> SurgeryError {
    SurgeryError(
      .unsupported, id, "the base is quantised: it holds codes, not weights", found: found,
      hint: "merge into the model in its original precision, then quantise again")
  }
}
