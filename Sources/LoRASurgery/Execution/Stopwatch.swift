#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Measures what an operation cost.
struct Stopwatch {
  private let start = ContinuousClock.now

  /// Wall-clock seconds since the stopwatch was made.
  var seconds: Double {
    let elapsed = (ContinuousClock.now - start).components
    return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
  }

  /// The most memory that the process has held, in bytes.
  fileprivate static var peakMemory: Int {
    var usage = rusage()
    #if canImport(Darwin)
      guard unsafe getrusage(RUSAGE_SELF, &usage) == 0 else { return 0 }
      return Int(usage.ru_maxrss)
    #else
      guard unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
      // Linux counts in units of 1024 bytes.
      return Int(usage.ru_maxrss) * 1024
    #endif
  }
}

/// Totals of a report that say what the operation cost.
protocol CostTotals {
  var seconds: Double { get set }
  var peakMemory: Int { get set }
}

extension CostTotals {
  /// Notes the time until now and the memory.
  mutating func measure(_ stopwatch: Stopwatch) {
    seconds = stopwatch.seconds
    peakMemory = Stopwatch.peakMemory
  }
}

extension OperationReport.Totals: CostTotals {}
extension SpectrumReport.Totals: CostTotals {}
extension BatchReport.Totals: CostTotals {}
