import Checkpoints
import Tensors

/// Reads an adapter from a compact file.
enum CompactAdapterReader: DialectReader {
  static func recognises(_ files: AdapterFiles) -> String? {
    files.file.compactHeader?.json["adapter"] == nil ? nil : "the compact format's own header"
  }

  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter {
    guard let header = files.file.compactHeader, let section = header.json["adapter"] else {
      throw SurgeryError.adapter(
        "not-adapter", "the file holds tensors, but no adapter", expected: "an adapter section")
    }
    let decoder = CompactDecoder(tensors: files.file.tensors)
    var modules: [ModuleUpdate] = []
    var bytes: [String: Int] = [:]
    var counted = Set<TensorName>()
    let sizes = Dictionary(
      uniqueKeysWithValues: zip(files.file.tensors.map(\.name), header.storedBytes))
    for json in try decoder.list(section, "modules") {
      let module = try decoder.module(json)
      for factor in module.update.factors where counted.insert(factor.tensor.name).inserted {
        bytes[module.name, default: 0] += sizes[factor.tensor.name] ?? 0
      }
      modules.append(module)
    }
    var replacements: [Replacement] = []
    for json in try decoder.list(section, "replacements") {
      replacements.append(try decoder.replacement(json))
    }
    var provenance = Adapter.Provenance(dialect: .compact, reason: reason)
    provenance.metadata = header.metadata
    if let said = header.json["provenance"] { try decoder.read(said, into: &provenance) }
    var facts = CompactFacts(headerBytes: header.storedSize, bytesByModule: bytes)
    facts.origin = header.json["provenance"]?["dialect"]?.text.flatMap { Dialect(rawValue: $0) }
    facts.tool = header.json["tool"]?.text
    if let error = header.json["error"] {
      facts.maximumError = try decoder.number(error, "module")
      facts.maximumTotalError = try decoder.number(error, "total")
    }
    provenance.compact = facts
    var adapter = Adapter(
      path: files.path, modules: modules, replacements: replacements, provenance: provenance)
    if section["fan_in_fan_out"] != nil {
      adapter.fanInFanOut = try decoder.flag(section, "fan_in_fan_out")
    }
    try override(&adapter, ModuleOptions(options))
    return adapter
  }

  /// What the user says of scales wins over what the file says.
  private static func override(
    _ adapter: inout Adapter, _ options: ModuleOptions
  ) throws(SurgeryError) {
    for index in adapter.modules.indices {
      let module = adapter.modules[index]
      let said = options.scale(module.name, rank: module.update.rank ?? 1, alpha: nil)
      guard let scale = said.scale else { continue }
      adapter.modules[index].scale = scale
      adapter.modules[index].extraction = nil
      adapter.modules[index].alpha = said.alpha
      // A quantised module may have lost components, so the file's own ratio tells what its alpha is divided by.
      if options.rankScale == nil, let alpha = said.alpha, let old = module.alpha, old != 0,
        let ratio = module.scale.map({ $0 / old }), ratio != 0
      {
        adapter.modules[index].scale = alpha * ratio
      }
    }
  }
}

extension CompactDecoder {
  /// Reads what the file says of where it comes from.
  fileprivate func read(
    _ json: JSONValue, into provenance: inout Adapter.Provenance
  ) throws(SurgeryError) {
    if json["config"] != nil {
      do throws(SurgeryError) {
        provenance.config = try JSONValue(parsing: Array(text(json, "config").utf8))
      } catch {
        throw wrong("the configuration is no JSON", found: error.what)
      }
    }
    if json["base"] != nil { provenance.baseName = try text(json, "base") }
    if json["command"] != nil { provenance.command = try text(json, "command") }
    if let fingerprint = json["fingerprint"] {
      provenance.base = try BaseFingerprint(fingerprint, decoder: self)
    }
    if json["warnings"] != nil {
      for warning in try list(json, "warnings") {
        guard let text = warning.text else { throw wrong("a warning is no string") }
        provenance.warnings.append(text)
      }
    }
  }
}
