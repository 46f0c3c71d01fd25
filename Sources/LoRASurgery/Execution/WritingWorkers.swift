import Checkpoints
import Tensors

extension Execution {
  /// Runs steps that compute parts of an output and write them.
  ///
  /// There are more threads than `jobs`, so that some can wait for the disk; never more than `jobs` of them compute.
  ///
  /// - Parameters:
  ///   - steps: How many there are.
  ///   - isSequential: Whether the output's format wants them one after the other.
  ///   - makeState: Makes what a thread keeps from step to step.
  ///   - body: Runs one step; what it leaves in the stage is written when it returns.
  /// - Throws: The failure of the lowest step.
  func runWriting<State>(
    steps: Int, isSequential: Bool,
    makeState: @escaping @Sendable () throws(SurgeryError) -> State,
    _ body: @escaping @Sendable (inout State, WriteStage, Int) throws(SurgeryError) -> Void
  ) throws(SurgeryError) {
    let cores = Cores(count: jobs)
    try Workers(count: isSequential ? 1 : 3 * jobs).run(
      steps: steps, interruption: interruption,
      makeState: { () throws(SurgeryError) in
        (kept: try makeState(), stage: WriteStage(waiting: cores.lend))
      }
    ) { (state, index) throws(SurgeryError) in
      try cores.take { () throws(SurgeryError) in
        try body(&state.kept, state.stage, index)
        try state.stage.flush()
      }
    }
  }
}
