/// What the program says when it is called without a word.
enum FirstSteps {
  static let text = """
    lora-surgery extracts, merges and converts low-rank adapters (LoRA) of models on disk.

    First steps:
      lora-surgery inspect model/
          what lies in a model or an adapter: names, shapes, ranks, scales
      lora-surgery spectrum --base base/ --tuned tuned/
          what an adapter of each rank would keep of a fine-tune, and cost
      lora-surgery extract --base base/ --tuned tuned/ -o adapter/ --rank 16
          the difference of two models as an adapter
      lora-surgery merge base/ adapter/ -o merged/
          an adapter added to a model; unmerge takes it out again
      lora-surgery compare merged/ tuned/ --tolerance 0.01
          how far two models are apart

    Nothing is overwritten unless --force says so, and --dry-run writes nothing at all.
    lora-surgery --help lists all commands; lora-surgery COMMAND --help and
    man lora-surgery-COMMAND explain one of them.
    """
}
