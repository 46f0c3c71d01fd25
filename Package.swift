// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]

let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")

let package = Package(
  name: "lora-surgery",
  products: [
    .executable(name: "lora-surgery", targets: ["lora-surgery"]),
    .library(name: "LoRASurgery", targets: ["LoRASurgery"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
    .systemLibrary(
      name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .systemLibrary(
      name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"]), .brew(["libyaml"])]),
    .target(name: "CTensorKernels"),
    .target(name: "CSystemCalls"),
    .target(name: "Tensors", dependencies: ["CTensorKernels"], swiftSettings: settings),
    .target(name: "YAML", dependencies: ["CYAML", "Tensors"], swiftSettings: settings),
    .target(
      name: "LinearAlgebra", dependencies: ["COpenBLAS", "CTensorKernels", "Tensors"],
      swiftSettings: settings,
      linkerSettings: [.linkedLibrary("m", .when(platforms: [.linux]))]),
    .target(
      name: "Checkpoints", dependencies: ["CSystemCalls", "CZlib", "Tensors", system],
      swiftSettings: settings),
    .target(
      name: "Adapters", dependencies: ["Checkpoints", "LinearAlgebra", "Tensors", system],
      swiftSettings: settings),
    .target(
      name: "LoRASurgery",
      dependencies: ["Adapters", "Checkpoints", "LinearAlgebra", "Tensors", "YAML", system],
      swiftSettings: settings),
    .executableTarget(
      name: "lora-surgery",
      dependencies: [
        "LoRASurgery", "Adapters", "Checkpoints", "LinearAlgebra", "Tensors", "YAML", system,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: settings, plugins: ["CommitStamp"]),
    .plugin(
      name: "CommitStamp", capability: .buildTool(), path: "Sources/CommitStamp",
      exclude: ["commit.sh"]),
    .testTarget(name: "TensorsTests", dependencies: ["Tensors"]),
    .testTarget(name: "YAMLTests", dependencies: ["YAML", "Tensors"]),
    .testTarget(name: "LinearAlgebraTests", dependencies: ["LinearAlgebra", "Tensors"]),
    .testTarget(name: "CheckpointsTests", dependencies: ["Checkpoints", "Tensors", system]),
    .testTarget(
      name: "AdaptersTests",
      dependencies: [
        "LoRASurgery", "Adapters", "Checkpoints", "LinearAlgebra", "Tensors", system,
      ]),
    .testTarget(
      name: "LoRASurgeryTests",
      dependencies: [
        "LoRASurgery", "Adapters", "Checkpoints", "LinearAlgebra", "Tensors", "YAML", system,
      ]),
    .testTarget(name: "CommandTests", dependencies: ["lora-surgery"]),
  ],
  swiftLanguageModes: [.v6])
