import Adapters
import Checkpoints
import Tensors

extension ConvertRequest {
  /// Converts an adapter to another dialect, or its updates to low-rank factors.
  func runOnAdapter(_ execution: Execution) throws(SurgeryError) -> OperationReport {
    guard renamings.isEmpty, transposed.isEmpty, metadata.isEmpty, droppedMetadata.isEmpty,
      form.maximumShardSize == nil, form.compression == nil
    else {
      throw SurgeryError(
        .usage, "convert.form",
        "an adapter's dialect decides names, shapes, metadata and files of its tensors",
        hint: "convert its file as a checkpoint, without --to DIALECT, --from and --as")
    }
    let written = dialect ?? Dialect(containerOf: output)
    if written == .compact, !asLowRank { return try runToCompact(execution) }
    guard maximumTotalError == nil, quality == nil else {
      throw SurgeryError(
        .usage, "convert.quality", "only compact files have a stated error",
        hint: "an output called .lra, or --to compact")
    }
    let stopwatch = Stopwatch()
    let choice = try ranks.choice(isRequired: asLowRank)
    guard asLowRank || ranks == RankOptions() else {
      throw SurgeryError(
        .usage, "convert.ranks", "converting to another dialect keeps the ranks",
        hint: "--as lora factors updates anew; resize changes ranks")
    }
    let source = try Adapter(
      factorsAt: input, options: adapterOptions, limits: execution.limits)
    let base = try ConversionBase(opening: base, limits: execution.limits)
    var output = try AdapterOutput(
      to: output, dialect: dialect, like: source, dtype: dtype, force: force, dryRun: dryRun,
      allowOverflow: allowOverflow)
    output.prefix = prefix
    let inputs = source.inputs + (base.model?.files.map(\.file.file) ?? [])
    var conversion = AdapterConversion(
      request: self, dialect: output.form.dialect, choice: choice,
      spool: try output.spool(reading: inputs), execution: execution)
    execution.progress.begin("converting", total: source.byteCount)
    var result = source
    result.provenance.dialect = output.form.dialect
    result.provenance.baseConfig = base.config
    if let model = base.model {
      conversion.architecture = Architecture(of: model)
      let resolved = try source.resolved(against: model, options: adapterOptions)
      try conversion.convert(resolved)
      result.fanInFanOut = resolved.tensors.contains { $0.isTransposed }
      conversion.warnings += resolved.warnings
    } else {
      try conversion.convert(source)
      conversion.warnings += source.provenance.warnings
    }
    result.modules = conversion.modules
    result.replacements = conversion.replacements
    var report = OperationReport(command: "convert", modules: conversion.reports)
    report.warnings = conversion.warnings
    report.totals.bytesRead = source.byteCount
    try output.write(result, inputs: inputs, into: &report, execution)
    report.totals.measure(stopwatch)
    return report
  }
}
