public import Adapters
public import Checkpoints
public import Tensors

extension AdapterPlan {
  /// Writes the output; it appears whole or not at all.
  ///
  /// Tensors are written in the order of the plan. What is to be quantised is computed ahead on all threads; each then waits
  /// for its turn.
  ///
  /// - Parameters:
  ///   - replacing: Whether an existing output is replaced.
  ///   - inputs: The files that are read.
  ///   - execution: Threads and interruption.
  /// - Throws: What reading and writing throw.
  public func write(
    replacing: Bool, inputs: [InputFile], _ execution: Execution
  ) throws(SurgeryError) {
    let writer = try CheckpointWriter(
      plan, replacing: replacing, inputs: inputs, interruption: execution.interruption)
    let steps = contents.enumerated().flatMap { file, contents in
      contents.enumerated().map { tensor, content in
        (place: PlannedTensor(file: file, tensor: tensor), content: content)
      }
    }
    let isQuantised = steps.contains { if case .quantised = $0.content { true } else { false } }
    let turns = Turns()
    try Workers(count: isQuantised ? execution.jobs : 1).run(
      steps: steps.count, interruption: execution.interruption,
      makeState: { (scratch: [UInt8](repeating: 0, count: 1 << 20), stage: WriteStage()) },
      whenFailed: turns.fail
    ) { (state, index) throws(SurgeryError) in
      let (place, content) = steps[index]
      let matrix: EncodedMatrix? =
        if case .quantised(let make) = content { try make().encoded() } else { nil }
      // Where a step before has failed, its failure is thrown and nothing of this one counts.
      guard turns.wait(for: index) else { return }
      if let matrix {
        try writer.write(matrix, to: place)
      } else {
        try content.write(to: writer, place, scratch: &state.scratch, through: state.stage)
        try state.stage.flush()
      }
      turns.finish(index)
    }
    try writer.commit()
  }
}

extension AdapterPlan.Content {
  fileprivate func write(
    to writer: CheckpointWriter, _ place: PlannedTensor, scratch: inout [UInt8],
    through stage: WriteStage
  ) throws(SurgeryError) {
    guard case .stored(let stored) = self else {
      let bytes = try bytes()
      return try unsafe writer.write(bytes.span.bytes, to: place, at: 0, through: stage)
    }
    try writer.copy(
      stored, bytes: 0..<stored.info.byteCount, to: place, scratch: &scratch, through: stage)
  }
}

/// Lets threads prepare steps in any order and finish them one after the other.
private struct Turns {
  private struct State {
    /// The step whose turn it is.
    var next = 0
    /// The lowest step that has failed: those behind it would wait for ever.
    var failed = Int.max
  }

  private let state = Monitor(State())

  /// Waits until all steps before this one are finished.
  ///
  /// - Returns: Whether it goes on; not where one before has failed.
  func wait(for step: Int) -> Bool {
    state.wait { $0.failed < step ? false : $0.next == step ? true : nil }
  }

  /// Lets the step after this one begin.
  func finish(_ step: Int) { state.update { $0.next = step + 1 } }

  /// Ends the waiting of the steps behind this one.
  func fail(_ step: Int) { state.update { $0.failed = min($0.failed, step) } }
}
