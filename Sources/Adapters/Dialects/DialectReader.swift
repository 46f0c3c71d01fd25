public import Checkpoints
public import Tensors

/// Reads adapters of one dialect.
protocol DialectReader: SendableMetatype {
  /// Why these files are of this dialect; `nil` where they are not.
  static func recognises(_ files: AdapterFiles) -> String?

  /// Reads the adapter; its tensors are described, not loaded.
  ///
  /// - Parameters:
  ///   - files: The opened files.
  ///   - options: What the user says.
  ///   - reason: How the dialect was recognised.
  /// - Returns: The adapter.
  /// - Throws: The vocabulary of adapters, with key and field.
  static func read(
    _ files: AdapterFiles, options: AdapterOptions, reason: String
  ) throws(SurgeryError) -> Adapter
}

/// What reads and what writes each dialect.
enum DialectRegistry {
  /// Every reader in the order in which detection asks, which is that of the keys' specificity.
  static let readers: [any DialectReader.Type] =
    ([
      .compact, .gguf, .peft, .mlx, .rTorch, .kohya, .diffusers, .comfyui, .torchtune, .litgpt,
      .loralib, .handWritten,
    ] as [Dialect]).map { reader(of: $0) }

  /// What reads adapters of a dialect.
  static func reader(of dialect: Dialect) -> any DialectReader.Type {
    switch dialect {
    case .peft: PEFTReader.self
    case .kohya: KohyaReader.self
    case .diffusers: DiffusersReader.self
    case .comfyui: ComfyUIReader.self
    case .loralib: LoralibReader.self
    case .mlx: MLXReader.self
    case .gguf: GGUFAdapterReader.self
    case .torchtune: TorchtuneReader.self
    case .litgpt: LitGPTReader.self
    case .rTorch: RTorchReader.self
    case .handWritten: HandWrittenReader.self
    case .compact: CompactAdapterReader.self
    }
  }
}

extension Adapter {
  /// Opens an adapter: a file, or a folder with its configuration.
  ///
  /// - Parameters:
  ///   - path: As the user named it.
  ///   - options: What the user says; `dialect` overrules detection.
  ///   - limits: What reading may cost.
  /// - Throws: `adapter.not-adapter` where no dialect recognises the files, `adapter.shape` where a tensor without elements
  ///   claims to be large, and what the dialects' readers throw.
  /// - Complexity: Proportional to the headers; no tensor's data is read but single numbers.
  public init(
    opening path: String, options: AdapterOptions = AdapterOptions(),
    limits: ReadLimits = ReadLimits()
  ) throws(SurgeryError) {
    let files = try AdapterFiles(opening: path, limits: limits)
    do throws(SurgeryError) {
      try files.refuseLargeEmptyTensors()
      self = try Self.read(files, options: options)
    } catch {
      throw error.inFile(files.file.file.path)
    }
  }

  private static func read(
    _ files: AdapterFiles, options: AdapterOptions
  ) throws(SurgeryError) -> Adapter {
    if let wanted = options.dialect {
      return try DialectRegistry.reader(of: wanted)
        .read(files, options: options, reason: "given with --from")
    }
    for reader in DialectRegistry.readers {
      if let reason = reader.recognises(files) {
        return try reader.read(files, options: options, reason: reason)
      }
    }
    if let config = files.config, config["lora_alpha"] != nil || config["r"] != nil {
      throw SurgeryError.adapter(
        "config", "adapter_config.json has no peft_type", file: files.configPath,
        expected: "peft_type", hint: "--from peft reads it as PEFT LoRA")
    }
    throw SurgeryError.adapter(
      "not-adapter", "no dialect recognises these tensors as an adapter",
      expected: "keys such as lora_A.weight, lora_down.weight or lora_a",
      found: files.tensors.map(\.name.text).listed(limit: 4),
      hint:
        "an adapter is expected here, not a model; --from names its dialect, --pair the factors of "
        + "a tensor")
  }

  /// Whether a path looks like an adapter rather than a model: for commands that take either.
  ///
  /// - Parameters:
  ///   - path: A file or folder.
  ///   - limits: What reading may cost.
  /// - Returns: Whether a dialect recognises it.
  public static func isAdapter(at path: String, limits: ReadLimits = ReadLimits()) -> Bool {
    guard let files = try? AdapterFiles(opening: path, limits: limits) else { return false }
    return isAdapter(files)
  }

  /// Whether an opened checkpoint looks like an adapter rather than a model; nothing is opened again.
  ///
  /// - Parameter checkpoint: What a path holds.
  /// - Returns: Whether it is one file that a dialect recognises.
  public static func isAdapter(_ checkpoint: Checkpoint) -> Bool {
    guard let files = try? AdapterFiles(of: checkpoint) else { return false }
    return isAdapter(files)
  }

  private static func isAdapter(_ files: AdapterFiles) -> Bool {
    DialectRegistry.readers.contains { $0.recognises(files) != nil }
  }
}
