// swift-tools-version: 6.2
import PackageDescription

// Built by run.sh for libFuzzer; without its flags only `Regressions` links.
let product = Target.Dependency.product(name: "LoRASurgery", package: "lora-surgery")
let targets = [
  "FuzzSafetensors", "FuzzIndex", "FuzzGGUF", "FuzzNpy", "FuzzNpz", "FuzzTorch", "FuzzCompact",
]

let package = Package(
  name: "Fuzz",
  dependencies: [.package(name: "lora-surgery", path: "..")],
  targets: [
    .target(name: "FuzzTargets", dependencies: [product]),
    .executableTarget(name: "Regressions", dependencies: ["FuzzTargets"]),
  ]
    + targets.map {
      .executableTarget(
        name: $0, dependencies: ["FuzzTargets"],
        swiftSettings: [.unsafeFlags(["-parse-as-library"])])
    },
  swiftLanguageModes: [.v6])
