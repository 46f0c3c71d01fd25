extension SpectrumPage {
  static let style = ""
}
