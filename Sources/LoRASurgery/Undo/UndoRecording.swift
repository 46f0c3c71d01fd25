import Checkpoints
import LinearAlgebra
import Tensors

/// Records, while a merge runs, what takes it back bit for bit.
struct UndoRecording: Sendable {
  /// A step whose base is recorded.
  struct Step: Sendable {
    /// The base's tensor.
    var base: StoredTensor
    /// Whether the adapter's own tensor takes its place.
    var isReplaced: Bool
    /// The entry of the record, without pages.
    var entry: UndoRecord.Tensor
    /// Its position in the record.
    var position: Int

    var pageCount: Int { entry.pageCount }
  }

  let writer: UndoWriter
  /// By the step's position among those of the merge.
  let steps: [Int: Step]

  /// The steps of a merge that change something, as they are recorded.
  ///
  /// - Parameters:
  ///   - steps: The steps of the merge.
  ///   - bases: The base's tensor of each step; `nil` for a tensor that merging adds.
  /// - Returns: By the position of the step, what is recorded of it.
  /// - Throws: `undo.dtype` where elements are smaller than a byte.
  static func planned(
    _ steps: [TensorStep], bases: [StoredTensor?]
  ) throws(SurgeryError) -> [Int: Step] {
    var result: [Int: Step] = [:]
    for (index, (step, base)) in zip(steps, bases).enumerated() {
      guard let base else { continue }
      let isReplaced =
        step.source.source.file !== base.source.file || step.source.info.shape != base.info.shape
      if step.isCopy && !isReplaced { continue }
      guard base.info.dtype.bytesPerElement != nil else {
        throw SurgeryError(
          .unsupported, "undo.dtype", "elements of this dtype cannot be recorded",
          file: base.source.file.path, tensor: base.name.text, found: base.info.dtype.name)
      }
      let prediction = step.undoPrediction(of: base.info, isReplaced: isReplaced)
      let geometry = step.geometry
      let byBlocks = !isReplaced && step.worksByRows
      let entry = UndoRecord.Tensor(
        base: base.info, mergedDType: step.dtype, mergedShape: step.source.info.shape,
        prediction: prediction, storedRows: max(1, geometry.rows),
        elementsPerPage: byBlocks
          ? max(1, geometry.rowsPerBlock * geometry.columns) : BlockGeometry.blockElements,
        updates: step.updates.map { ($0.scale, $0.weight) })
      result[index] = Step(
        base: base, isReplaced: isReplaced, entry: entry, position: result.count)
    }
    return result
  }

  /// What records the blocks of a step in one thread; `nil` where nothing is recorded of them.
  func recorder(of index: Int, _ step: TensorStep) throws(SurgeryError) -> Recorder? {
    guard let recorded = steps[index], !recorded.isReplaced else { return nil }
    return try Recorder(recorded, step, writer)
  }

  /// Records pages of a tensor that the adapter's own takes the place of.
  func recordReplaced(
    _ pages: Range<Int>, of index: Int, by step: TensorStep
  ) throws(SurgeryError) {
    guard let recorded = steps[index], let size = recorded.base.info.dtype.bytesPerElement else {
      return
    }
    var base = try recorded.base.source.makeReader()
    var source = try step.source.source.makeReader()
    for page in pages {
      let elements = recorded.entry.elements(of: page)
      var (old, new) = ([UInt8](repeating: 0, count: elements.count * size), [UInt8]())
      try old.withMutableRawSpan(0..<old.count) { (target) throws(SurgeryError) in
        try base.read(at: elements.lowerBound * size, into: &target)
      }
      let predicts = recorded.entry.prediction == .merged
      if predicts {
        new = [UInt8](repeating: 0, count: old.count)
        try new.withMutableRawSpan(0..<new.count) { (target) throws(SurgeryError) in
          try source.read(at: elements.lowerBound * size, into: &target)
        }
      }
      try writer.write(
        page: page, of: recorded.position, base: old, merged: predicts ? new : nil,
        prediction: predicts ? new : nil, size: size)
    }
  }
}

extension UndoRecording {
  /// Records the blocks of one step; one thread.
  final class Recorder {
    private let recorded: Step
    private let writer: UndoWriter
    private let columns: Int
    private let size: (base: Int, merged: Int)
    private let predictor: Predictor?

    fileprivate init(
      _ recorded: Step, _ step: TensorStep, _ writer: UndoWriter
    ) throws(SurgeryError) {
      self.recorded = recorded
      self.writer = writer
      columns = step.geometry.columns
      size = (recorded.base.info.dtype.bytesPerElement ?? 1, step.dtype.bytesPerElement ?? 1)
      predictor = recorded.entry.prediction == .subtract ? try Predictor(step) : nil
    }

    /// Records rows of the tensor, before and after.
    func record(_ rows: Range<Int>, base: [UInt8], merged: [UInt8]) throws(SurgeryError) {
      let first = rows.lowerBound * columns
      let perPage = recorded.entry.elementsPerPage
      let prediction = predictor?.predict(merged, rows: rows)
      var element = first
      while element < rows.upperBound * columns {
        let page = element / perPage
        let elements = recorded.entry.elements(of: page)
        let own = elements.lowerBound - first..<elements.upperBound - first
        let old = base.part(own, size.base)
        switch recorded.entry.prediction {
        case .subtract, .merged:
          let new = merged.part(own, size.merged)
          try writer.write(
            page: page, of: recorded.position, base: old, merged: new,
            prediction: prediction?.part(own, size.merged) ?? new, size: size.base)
        case .nothing:
          try writer.write(
            page: page, of: recorded.position, base: old, merged: nil, prediction: nil,
            size: size.base)
        }
        element = elements.upperBound
      }
    }
  }
}

/// Predictions in the precision that the dtype asks for, with buffers of their own; one thread.
final class Predictor {
  private let single: BasePrediction<Float>?
  private let double: BasePrediction<Double>?
  private var singleBuffers = BlockBuffers<Float>()
  private var doubleBuffers = BlockBuffers<Double>()

  /// Reads the factors of a step's updates.
  init(_ step: TensorStep) throws(SurgeryError) {
    single = step.predictsInDouble ? nil : try BasePrediction(step)
    double = step.predictsInDouble ? try BasePrediction(step) : nil
  }

  /// The predicted base of some merged rows.
  func predict(_ merged: [UInt8], rows: Range<Int>) -> [UInt8] {
    if let single {
      single.predict(merged, rows: rows, buffers: &singleBuffers)
      return singleBuffers.prediction
    }
    double?.predict(merged, rows: rows, buffers: &doubleBuffers)
    return doubleBuffers.prediction
  }
}

extension [UInt8] {
  /// The bytes of a range of elements; the array itself where that is all of it.
  fileprivate func part(_ elements: Range<Int>, _ size: Int) -> [UInt8] {
    let bytes = elements.lowerBound * size..<elements.upperBound * size
    return bytes == indices ? self : Array(self[bytes])
  }
}
