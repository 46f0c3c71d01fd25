public import Checkpoints
public import Tensors

/// How an adapter is to be written.
public struct AdapterWritingOptions: Sendable, Hashable, Codable {
  /// The dialect.
  public var dialect: Dialect
  /// The container of the tensors.
  public var format: FileFormat
  /// The dtype of factors; `nil` keeps theirs.
  public var dtype: DType?
  /// The prefix of keys in dialects that have one to choose, such as kohya's `lora_unet`.
  public var prefix: String?
  /// The most that the delta of any module may be off, relative to its Frobenius norm (`--max-error`); compact files only.
  public var maximumError: Double?
  /// The most that all deltas together may be off, relative to their Frobenius norm (`--max-error-total`); compact files
  /// only.
  public var maximumTotalError: Double?
  /// A name for a `maximumError`, which counts where that is not given; compact files only.
  public var quality: CompactQuality?
  /// The program that writes, with its version; compact files say it.
  public var tool = "lora-surgery"

  /// Creates options.
  ///
  /// - Parameters:
  ///   - dialect: The dialect.
  ///   - format: The container of the tensors.
  public init(dialect: Dialect, format: FileFormat = .safetensors) {
    self.dialect = dialect
    self.format = format
  }
}

/// Lays adapters out in one dialect.
protocol DialectWriter: SendableMetatype {
  /// The dialect.
  static var dialect: Dialect { get }

  /// Plans the output.
  ///
  /// - Parameters:
  ///   - adapter: What to write; its dotted names are those of the base.
  ///   - path: Where it goes.
  ///   - options: How it is written.
  /// - Returns: The plan, with where each tensor's bytes come from.
  /// - Throws: `adapter.inexpressible` for what the dialect cannot hold.
  static func plan(
    _ adapter: Adapter, to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan
}

extension DialectRegistry {
  /// Every dialect that is written.
  static let writers: [any DialectWriter.Type] = [
    PEFTWriter.self, KohyaWriter.self, DiffusersWriter.self, ComfyUIWriter.self,
    LoralibWriter.self, MLXWriter.self, CompactAdapterWriter.self, GGUFAdapterWriter.self,
  ]
}

extension Adapter {
  /// The dialects that adapters are written in.
  public static let writtenDialects: [Dialect] = DialectRegistry.writers.map { $0.dialect }

  /// Lays this adapter out in a dialect.
  ///
  /// - Parameters:
  ///   - path: Where it goes: a folder, or a file by its extension.
  ///   - options: The dialect and the form of the tensors.
  /// - Returns: The plan, complete before a byte is written.
  /// - Throws: `adapter.inexpressible` with the module for what the dialect cannot hold; `adapter.unsupported` for a dialect
  ///   that is not written.
  public func plan(
    to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    do throws(SurgeryError) {
      return try plannedOutput(to: path, options: options)
    } catch {
      throw error.inFile(self.path)
    }
  }

  private func plannedOutput(
    to path: String, options: AdapterWritingOptions
  ) throws(SurgeryError) -> AdapterPlan {
    guard let writer = DialectRegistry.writers.first(where: { $0.dialect == options.dialect })
    else {
      throw SurgeryError.unsupportedAdapter(
        "adapters of this dialect are not written", found: options.dialect.rawValue)
    }
    if let dtype = options.dtype, !dtype.isFloatingPoint,
      dtype != .blockQuantised(.q8_0) || writer.dialect != .gguf
    {
      throw SurgeryError(
        .usage, "dtype.factors", "factors cannot be stored in this dtype",
        found: "\(dtype) in \(writer.dialect.rawValue)")
    }
    if let module = modules.first(where: { $0.enlargedShape != nil }), writer.dialect != .compact {
      throw SurgeryError.inexpressible(
        "a module that enlarges its base tensor", in: writer.dialect, module.name,
        hint: "--base gives the model; the enlarged tensor is then stored in full")
    }
    if let stack = modules.first(where: { $0.update is StackedLowRank }),
      !writer.dialect.holdsExpertStacks
    {
      throw SurgeryError.inexpressible(
        stack.update.summary, in: writer.dialect, stack.target.tensorName,
        hint: "--to peft or compact holds it; --exclude leaves it out")
    }
    let adapter = try solvedWithoutBase(for: options.dialect)
      .withRowsInModelOrder(for: options.dialect)
    return try writer.plan(adapter, to: path, options: options)
  }

  /// The rows of llama.cpp's queries and keys in the order of the model, as all dialects but its own have them.
  private func withRowsInModelOrder(for dialect: Dialect) throws(SurgeryError) -> Adapter {
    guard dialect != .gguf, dialect != .compact else { return self }
    let heads = AttentionHeads(config: provenance.baseConfig)
    var result = self
    for index in result.modules.indices {
      guard let permuted = result.modules[index].update as? HeadPermuted else { continue }
      result.modules[index].update = try permuted.inModelOrder(heads)
    }
    return result
  }
}

extension Adapter {
  /// Pairs of loralib taken for its Linear and Embedding, which the dialect's own class would be without more being said; other
  /// pairs need the base, and so do all for a compact file, which leaves its reader nothing to guess.
  private func solvedWithoutBase(for dialect: Dialect) throws(SurgeryError) -> Adapter {
    var result = self
    for index in result.modules.indices {
      guard let pair = result.modules[index].update as? UnsolvedPair else { continue }
      guard dialect != .compact, pair.isLoralib, pair.first.rows == pair.second.columns else {
        throw SurgeryError.adapter(
          "ambiguous-orientation", "how the factors lie is only known from the base", file: path,
          key: pair.first.tensor.name.text, found: "\(pair.first.tensor.info.shape)",
          hint: "--base gives the model that decides")
      }
      result.modules[index].update =
        pair.isEmbedding
        ? try LowRank(
          up: pair.first.transposed(), down: pair.second.transposed(), form: .embedding)
        : try LowRank(up: pair.second, down: pair.first)
    }
    return result
  }
}

extension SurgeryError {
  /// The error for what a dialect cannot hold.
  static func inexpressible(
    _ what: String, in dialect: Dialect, _ module: String? = nil, hint: String? = nil
  ) -> Self {
    Self(
      .unsupported, "adapter.inexpressible",
      "\(dialect.rawValue) cannot express \(what)", tensor: module, hint: hint)
  }

  /// The error for a kind of update that a dialect has not.
  static func inexpressible(
    _ update: any Update, in dialect: Dialect, _ module: String
  ) -> Self {
    // What is low-rank already would be the same again.
    let isPair = (update as? LowRank).map { $0.core == nil } ?? false
    return inexpressible(
      update.summary, in: dialect, module,
      hint: isPair
        ? "--exclude leaves the module out; peft and compact hold it" : "--as lora factors it anew")
  }

  /// The error for a change of a parameter that is no weight: nearly all dialects name a change by its module alone.
  static func noWeight(_ module: ModuleUpdate, in dialect: Dialect) -> Self {
    inexpressible(
      "a change of a tensor that is no module's weight", in: dialect, module.target.tensorName,
      hint: "--to compact holds it; --exclude leaves it out")
  }
}

extension ModuleUpdate {
  /// The dotted path of the module in the base, which writers of dotted keys need.
  func dottedModule(for dialect: Dialect) throws(SurgeryError) -> String {
    guard target.spelling == .dotted else {
      throw SurgeryError.adapter(
        "unknown-target", "the module's name with dots is only known from the base",
        key: name, hint: "--base gives the model whose names decide")
    }
    return target.module
  }
}
