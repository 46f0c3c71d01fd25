extension RankOptions {
  /// The options as the command line spells them, for the record that an adapter keeps of how it was made.
  var words: [String] {
    let numbers: [(String, (any CustomStringConvertible)?)] = [
      ("rank", rank), ("conv-rank", convRank), ("energy", energy), ("max-error", maxError),
      ("budget", budget?.text), ("sv-ratio", svRatio), ("sv-fro", svFro),
      ("sv-cumulative", svCumulative), ("min-rank", minRank), ("max-rank", maxRank),
    ]
    return numbers.compactMap { name, value in value.map { "--\(name) \($0)" } }
      + (noiseFloor ? ["--noise-floor"] : [])
      + rankFor.map { "--rank-for '\($0.pattern)=\($0.rank)'" }
  }
}
