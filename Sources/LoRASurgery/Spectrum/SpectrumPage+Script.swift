extension SpectrumPage {
  static let script = ""
  static let body = ""
}
