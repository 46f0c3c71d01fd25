import FuzzTargets
import Glibc

// Regressions TARGET FILE...: runs stored inputs once each, without a fuzzer.
let words = CommandLine.arguments
guard words.count >= 2, let target = FuzzTarget(rawValue: words[1]) else {
  print("usage: Regressions \(FuzzTarget.allCases.map(\.rawValue).joined(separator: "|")) FILE...")
  exit(64)
}
for path in words.dropFirst(2) {
  guard let file = fopen(path, "r") else {
    print("cannot read \(path)")
    exit(66)
  }
  var bytes: [UInt8] = []
  while case let byte = fgetc(file), byte != EOF { bytes.append(UInt8(byte)) }
  fclose(file)
  bytes.withUnsafeBytes { target.run($0) }
}
print("\(target.rawValue): \(words.count - 2) inputs")
