import Tensors

/// The error vocabulary of adapters; every id begins with `adapter.` and is stable.
///
/// Each error says the key and its stored shape, what was expected and from where, and as hint the option that resolves it.
extension SurgeryError {
  /// An adapter that is malformed, ambiguous or does not fit its base (exit status 65).
  static func adapter(
    _ id: String, _ what: String, file: String? = nil, key: String? = nil,
    expected: String? = nil, found: String? = nil, hint: String? = nil
  ) -> Self {
    Self(
      .data, "adapter.\(id)", what, file: file, tensor: key, expected: expected, found: found,
      hint: hint)
  }

  /// An adapter of a kind that this program does not compute (exit status 69).
  static func unsupportedAdapter(
    _ what: String, id: String = "unsupported", file: String? = nil, key: String? = nil,
    found: String? = nil, hint: String? = nil
  ) -> Self {
    Self(
      .unsupported, "adapter.\(id)", what, file: file, tensor: key, found: found, hint: hint)
  }
}
