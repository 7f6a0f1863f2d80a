"""Do the tests see the mistakes they are there for? Each entry breaks the code in one well-known way and names the
test that must fail. Runs in a copy of the project; `make mutants` prints a line for each and fails if one survives;
`python -m tests.mutants NaN` tries those with "NaN" in their description.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# (what goes wrong, file, code, its replacement, test file, test name)
MUTANTS = [
    ("accumulation: mean of means", "train.py", ".sum() / count", ".mean() / len(batches)", "test_train.py",
     "test_gradients_of_ragged_batches_equal_those_of_one_large_batch"),
    ("evaluation loss: mean of batch means", "experiments/tasks/base.py", "    return logits, losses\n",
     "    return logits, np.array([losses[rows].mean() for rows in batches])\n", "test_train.py",
     "test_evaluation_does_not_depend_on_the_batch_size"),
    ("the head is not loaded", "experiments/training/checkpoint.py", "    fill_parameters(dict(model.head", "    (dict(model.head",
     "test_train.py", "test_a_checkpoint_gives_back_the_trained_model_under_another_seed"),
    ("unfrozen layers are not loaded", "experiments/training/checkpoint.py", "        fill_parameters(encoder, read", "        (encoder, read",
     "test_train.py", "test_a_checkpoint_gives_back_the_trained_model_under_another_seed"),
    ("adapters are not loaded", "experiments/training/checkpoint.py", "        adapter.load_adapter(", "        (", "test_train.py",
     "test_a_checkpoint_gives_back_the_trained_model_under_another_seed"),
    ("a LoRA pattern may match nothing", "lora/inject.py", "raise _unmatched(\"lora.targets\"", "print(\"lora.targets\"",
     "lora/test_inject.py", "test_a_pattern_that_matches_nothing_is_an_error_and_nothing_is_touched"),
    ("merging twice", "lora/layer.py", "        if self.merged:\n            return\n", "", "lora/test_layer.py",
     "test_merging_twice_changes_nothing_more"),
    ("unmerging by subtraction", "lora/layer.py", "self.weight.copy_(self.unmerged_weight)", "self.weight.sub_(self.delta())",
     "lora/test_layer.py", "test_a_hundred_rounds_of_merging_leave_the_weight_bit_for_bit"),
    ("LoRA scaled by alpha", "lora/layer.py", "else alpha / rank", "else alpha", "lora/test_layer.py",
     "test_the_update_is_scaled_by_alpha_over_rank"),
    ("a row of zeros in DoRA", "lora/variants.py", "norms.masked_fill(norms == 0.0, 1.0)", "norms", "lora/test_variants.py",
     "test_a_row_of_zeros_gives_zeros_and_no_nan"),
    ("DoRA's dropout forgets the base", "lora/variants.py", "if dropped is not x:", "if False:", "lora/test_variants.py",
     "test_doras_dropout_is_on_what_is_added_to_the_base"),
    ("PiSSA's residual weights are not saved", "experiments/training/checkpoint.py", " or name in model.encoder.changed)", ")",
     "test_resume.py", "test_a_pissa_run_continues_and_answers_on_another_machine"),
    ("LoRA+ speeds up A too", "experiments/training/phases.py", ' and name.endswith(".lora_B")', "", "lora/test_variants.py",
     "test_b_trains_at_its_own_rate_and_is_told_apart"),
    ("a sum of adapters without their scaling", "lora/several.py", "(weight * scaling_of(", "(weight or scaling_of(",
     "lora/test_several.py", "test_a_weighted_sum_adds_the_updates"),
    ("gamma renamed everywhere", "model/pretrained.py", 'parent.endswith("LayerNorm")', "True", "model/test_pretrained.py",
     "test_gamma_outside_of_layernorm_is_not_renamed"),
    ("fp16 mask of minus infinity", "model/bert.py", "MASKED = -3e4", "MASKED = -1e9", "model/test_bert.py",
     "test_a_row_of_nothing_but_padding_is_finite"),
    ("padding is attended to", "model/bert.py", "masked_fill_(~mask, MASKED)", "masked_fill_(~mask, 0.0)",
     "model/test_bert.py", "test_padding_changes_nothing"),
    ("NaN is the best", "experiments/training/state.py", "return math.isfinite(value) and (", "return (", "test_train.py",
     "test_a_metric_that_is_not_finite_is_never_the_best"),
    ("NaN is stepped on", "train.py", "if math.isfinite(loss) and math.isfinite(norm):", "if True:", "test_train.py",
     "test_a_step_that_is_not_finite_changes_nothing_and_is_recorded"),
    ("an answer that sticks out is labelled", "data/squad.py", "begin <= answer[0] and answer[1] < end:",
     "begin <= answer[0] and answer[0] < end:", "data/test_squad.py", "test_the_worked_example_of_the_module_is_true"),
    ("stride taken for overlap", "data/squad.py", "        start += doc_stride", "        start += room - doc_stride",
     "data/test_squad.py", "test_the_worked_example_of_the_module_is_true"),
    ("null score by maximum", "data/decoding.py", "np.lexsort((start[cls]", "np.lexsort((-start[cls]", "data/test_decoding.py",
     "test_the_null_score_is_the_minimum_over_the_windows"),
    ("a token counts in every window", "data/decoding.py", "result[position[ranked[best]]] = True", "result[position] = True",
     "data/test_decoding.py", "test_a_token_counts_only_in_the_window_with_the_most_context_around_it"),
    ("duplicate ids overwrite", "data/readers.py", "if question.id in seen:", "if False:", "data/test_squad.py",
     "test_a_duplicate_id_is_an_error_also_across_files"),
    ("trained in 16 bit", "train.py", ".to(machine.device).train()", ".to(machine.device, machine.dtype).train()",
     "test_train.py", "test_trained_parameters_stay_fp32_in_mixed_precision"),
    ("clipped before unscaling", "train.py", "    run.scaler.unscale_(run.optimizer)", "    pass", "test_train.py",
     "test_fp16_gradients_are_unscaled_before_they_are_clipped"),
    ("a skipped step moves the schedule", "experiments/training/state.py", "step = progress.step - progress.phase_step",
     "step = progress.position", "test_train.py", "test_a_step_that_is_not_finite_changes_nothing_and_is_recorded"),
    ("bf16 wherever it runs", "model/machine.py", "    if native:", "    if True:",
     "model/test_machine.py", "test_auto_takes_bf16_only_where_the_hardware_has_it"),
    ("groups of the first phase only", "train.py", "parameter_groups(model, spec.phases,",
     "parameter_groups(model, spec.phases[:1],", "test_train.py", "test_learning_rate_traces_show_the_unfreezing"),
    ("a resumed run does not unfreeze", "train.py", "            if index != phase:", "            if index != progress.phase:",
     "test_resume.py", "test_a_killed_run_continues_to_the_same_numbers"),
    ("frozen tensors keep a zero gradient", "experiments/training/phases.py", "parameter.grad = None",
     "parameter.grad = parameter.detach() * 0", "test_train.py", "test_frozen_tensors_are_bitwise_unchanged"),
    ("evaluation leaves evaluation mode on", "experiments/tasks/base.py", "    model.train(was_training)\n", "",
     "test_train.py", "test_evaluation_leaves_the_mode_as_it_was"),
    ("no dropout in training", "train.py", ".to(machine.device).train()", ".to(machine.device).eval()", "test_train.py",
     "test_dropout_is_active_in_frozen_layers_during_training"),
    ("a silent tensor is not noticed", "experiments/training/state.py", "        if silent:", "        if False:", "test_train.py",
     "test_a_tensor_that_gets_no_gradient_is_named"),
    ("random state is not restored", "experiments/training/checkpoint.py", '        torch.set_rng_state(tensors["random/cpu"])\n', "        pass\n",
     "test_resume.py", "test_a_killed_run_continues_to_the_same_numbers"),
    ("optimizer state is not restored", "experiments/training/checkpoint.py", "            optimizer.state[parameter][key] =",
     "            _ =", "test_resume.py", "test_a_killed_run_continues_to_the_same_numbers"),
    ("patience starts anew on resume", "experiments/training/checkpoint.py", "    run.progress = state.progress\n",
     "    run.progress = state.progress\n    run.progress.since_best = 0\n", "test_resume.py",
     "test_a_killed_run_continues_to_the_same_numbers"),
    ("records are written twice on resume", "experiments/training/writer.py", "        self._file.truncate(offset)\n        self._file.seek(offset)",
     "        self._file.seek(0, 2)", "test_resume.py", "test_a_killed_run_continues_to_the_same_numbers"),
    ("another spec is resumed", "experiments/training/folder.py", "    if changed and not anyway:", "    if False:", "test_resume.py",
     "test_resuming_with_another_spec_lists_the_differences"),
    ("a link is replaced by what is written", "data/writing.py", "    require_plain(path)\n    new =", "    new =",
     "data/test_writing.py", "test_a_file_is_never_written_through_a_link"),
    ("somebody's files go with a run that is replaced", "experiments/training/folder.py", "elif replaced and not", "elif False and not",
     "test_foreign.py", "test_a_run_folder_with_somebodys_files_is_not_replaced"),
    ("the best of any run is scored", "experiments/inference/trained.py", "    if records:\n        try:", "    if False:\n        try:",
     "test_foreign.py", "test_the_best_of_another_run_is_not_scored_under_this_ones_name"),
    ("a spec.json is taken as it is", "experiments/inference/trained.py", "if changed and not (records and records.resumed_anyway)", "if False",
     "test_foreign.py", "test_an_edited_spec_is_not_what_the_model_was_trained_with"),
    ("NaN is a metric like any other", "experiments/training/state.py", "if not found.finite:", "if False:",
     "test_foreign.py", "test_an_evaluation_without_a_finite_loss_is_never_the_best"),
    ("weights that have trained are dropped", "experiments/training/checkpoint.py", "    elif (folder / ENCODER).exists():", "    elif False:",
     "test_foreign.py", "test_what_has_trained_is_not_dropped_when_resumed_without_it"),
    ("a checkpoint is written in place", "data/writing.py", "        fill(new)\n", "        fill(target if target.exists() else new)\n",
     "data/test_writing.py", "test_a_writer_that_fails_leaves_the_previous_folder"),
    ("a shard may lie anywhere", "model/pretrained.py", "if Path(name).name != name or", "if",
     "model/test_pretrained.py", "test_a_shard_index_cannot_leave_its_folder"),
    ("seeded after the model is built", "train.py", "    torch.manual_seed(spec.seed)", "    pass", "test_train.py",
     "test_the_same_spec_gives_the_same_bits_twice_and_another_seed_does_not"),
    ("one order for all epochs", "data/batching.py", "default_rng([seed, epoch])", "default_rng([seed])",
     "data/test_batching.py", "test_every_epoch_and_every_seed_has_another_order"),
    ("dropout's scale rounded first", "model/dropout.py", "(x * keep.to(x.dtype)).mul_(", "x * keep.to(x.dtype).mul_(",
     "model/test_bert.py", "test_dropout_is_unbiased_in_16_bit"),
    ("two processes on one run", "experiments/training/folder.py", "        if not held:", "        if False:",
     "test_resume.py", "test_a_second_process_on_a_run_folder_is_refused"),
    ("a full disk tears the metrics file in silence", "experiments/training/writer.py", "rest = rest[self._file.write(rest) :]",
     "rest = rest[self._file.write(rest) + 10**9 :]", "test_resume.py",
     "test_a_full_disk_ends_the_run_with_its_checkpoint_intact"),
    ("a damaged checkpoint is resumed", "experiments/training/checkpoint.py", "        if sha256_of(folder / name) != digest:", "        if False:",
     "test_resume.py", "test_a_checkpoint_that_is_not_what_was_saved_is_refused"),
    ("a run folder is made piece by piece", "experiments/training/folder.py", "    write_whole(run.folder, fill)",
     "    run.folder.mkdir(parents=True, exist_ok=True)\n    fill(run.folder)", "test_resume.py",
     "test_a_run_folder_is_there_as_a_whole_or_not_at_all"),
    ("padding counts in the mean", "model/text_heads.py", "kept = mask[:, :, None].to(hidden.dtype)",
     "kept = torch.ones_like(mask[:, :, None]).to(hidden.dtype)", "model/test_heads.py", "test_padding_has_no_part_in_the_mean"),
    ("equal texts on both sides of a split", "data/splits.py", "groups.setdefault(normalised(row), [])",
     "groups.setdefault((index,), [])", "data/test_splits.py",
     "test_one_text_is_never_in_two_parts_however_it_is_written_or_labelled"),
    ("one class at a time", "data/splits.py", "for number in sorted(shuffled, key=lambda number: stratum[number]):",
     "for number in shuffled:", "data/test_splits.py", "test_every_part_has_its_share_of_every_class_to_within_one_text"),
    ("class weights are forgotten", "experiments/tasks/base.py", 'return losses * batch["weight"] if', "return losses if",
     "experiments/inference/test_texts.py", "test_class_weights_multiply_the_losses_of_training_only"),
    ("a regression in standardised units", "experiments/tasks/texts.py", "return standardised.astype(float) * outputs.sd + outputs.mean",
     "return standardised", "experiments/inference/test_texts.py", "test_a_regression_is_judged_in_the_unit_of_its_targets"),
    ("a threshold of 0.5 for every label", "experiments/inference/texts.py", 'trained.metrics.get(f"threshold:{label}") or 0.5',
     "0.5", "experiments/inference/test_texts.py", "test_several_labels_have_thresholds_of_their_own_that_scoring_uses"),
    ("one mask for the whole run", "data/masking.py", "chosen = (random.random(tokens.shape)",
     "chosen = (np.random.default_rng(0).random(tokens.shape)", "experiments/inference/test_texts.py",
     "test_masking_shows_other_tokens_as_mask_each_time_and_spares_special_ones"),
    ("the same mask in every step", "train.py", "default_rng([run.spec.seed, progress.position])",
     "default_rng([run.spec.seed])", "experiments/inference/test_texts.py",
     "test_each_step_of_training_masks_anew_and_a_resumed_one_masks_alike"),
    ("smoothing in the development loss", "experiments/tasks/base.py", "model.head_of(task).loss(out, batch).cpu()",
     "model.head_of(task).loss(out, batch, 0.1).cpu()", "experiments/inference/test_texts.py", "test_label_smoothing_is_for_training_only"),
    ("a sweep ends where a run diverged", "experiments/training/sweep.py", "        if code == 1:\n", "        if code == 99:\n",
     "experiments/inference/test_texts.py", "test_a_sweep_goes_on_after_a_run_that_diverged_and_says_so_at_the_end"),
    ("the tasks one after the other", "data/batching.py", "    return [batches[i] for i in order]\n\n\n", "    return batches\n\n\n",
     "experiments/inference/test_texts.py", "test_two_tasks_train_one_encoder_in_mixed_batches"),
    ("precision and recall exchanged", "data/metrics.py", '"precision": _ratio(hits, predicted)', '"precision": _ratio(hits, gold)',
     "data/test_metrics.py", "test_a_small_table_by_hand"),
    ("an evaluation without a loss is the best", "experiments/report/run.py", 'needed = (self.metric, "loss")', "needed = (self.metric,)",
     "experiments/report/test_one_run.py", "test_a_null_loss_is_never_the_best"),
    ("guessing leads a ranking", "experiments/report/comparison.py", " in ENDED and any(map(is_sound, members))", " in ENDED",
     "experiments/report/test_soundness.py", "test_what_is_unsound_leads_in_nothing_and_a_note_says_why"),
    ("a copied run is another seed", "experiments/repetitions.py", "first.setdefault(identity, i) != i", "first.setdefault((identity, i), i) != i",
     "experiments/report/test_several_runs.py", "test_settings_and_data_make_a_run_and_not_its_name"),
    ("other data under the same name is a repetition", "experiments/repetitions.py", "repr((settings_of(spec), origin))", "repr(settings_of(spec))",
     "experiments/inference/test_texts.py", "test_a_copied_run_counts_once_and_one_on_other_data_is_no_repetition"),
    ("escape sequences reach the terminal", "experiments/terminal.py", '"\\n".join(map(printable, ', '"\\n".join(map(str, ',
     "experiments/test_terminal.py", "test_what_is_said_is_one_line_that_a_terminal_does_not_obey"),
    ("a mention in Markdown is live", "experiments/report/render.py", 'LIVE = re.compile(r"@|', 'LIVE = re.compile(r"',
     "test_eval.py", "test_in_markdown_nothing_of_a_run_becomes_a_link_an_image_or_a_mention"),
    ("a field that readers see is not checked", "experiments/records.py", '"intervals": _or_null(_each(_is_interval))', '"intervals": _or_null(_each(bool))',
     "experiments/test_records.py", "test_a_record_that_lacks_what_readers_count_on_is_a_remark"),
    ("a program's threads are the run's", "experiments/inference/python.py", "allow_download, False,", "allow_download, True,",
     "experiments/inference/test_python.py", "test_the_settings_of_the_program_stay_and_nothing_is_printed"),
    ("a model draws from the program's random numbers", "experiments/inference/python.py", "with torch.random.fork_rng(devices=[]):", "if True:",
     "experiments/inference/test_python.py", "test_the_settings_of_the_program_stay_and_nothing_is_printed"),
    ("a bar is drawn in a program's terminal", "data/progress.py", "_QUIET.set(True)", "_QUIET.set(False)",
     "experiments/inference/test_python.py", "test_the_settings_of_the_program_stay_and_nothing_is_printed"),
    ("a script's own data.py stands in for ours", "experiments/__init__.py", "\ncheck_neighbours()\n", "\n",
     "experiments/inference/test_python.py", "test_a_neighbour_of_the_same_name_is_refused_in_one_line"),
    ("a question's own passage is a wrong one", "model/retrieval_head.py", "(passage[:, None] == passage) | (question", "(question",
     "model/test_retrieval_head.py", "test_what_answers_this_question_too_is_no_negative"),
    ("equal scores are places won", "data/ranking.py", "last = (scores >= own[:, None]).sum(1)", "last = (scores > own[:, None]).sum(1) + 1",
     "data/test_ranking.py", "test_a_model_that_gives_all_the_same_score_gains_nothing"),
    ("kept vectors are believed", "experiments/inference/vectors.py", 'if found["sha256"].tobytes() != contents_key(', 'if False and contents_key(',
     "experiments/inference/test_search.py", "test_a_damaged_file_is_never_believed"),
    ("probabilities of two passages are compared", "experiments/inference/search.py", "else answers.spans[0].score", "else answers.ranked(False)[0][1]",
     "experiments/inference/test_search.py", "test_scores_of_different_passages_compare"),
]  # fmt: skip


def survives(project: Path, mutant: tuple) -> str | None:
    """Break the copy, run the test, mend it. Returns a complaint, or None where the test failed as it must."""
    _, file, code, replacement, test_file, test = mutant
    path = project / file
    original = path.read_text()
    if original.count(code) != 1:
        return f"{code!r} is {original.count(code)} times in {file}"
    path.write_text(original.replace(code, replacement))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{test_file}", "-k", test]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    path.write_text(original)
    return None if done.returncode == 1 else f"pytest exit code {done.returncode}: {done.stdout[-300:]}"


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant[0] for word in sys.argv[1:])]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT, project, symlinks=True, ignore=shutil.ignore_patterns(".*", "runs", "__pycache__"))
        for mutant in chosen:
            complaint = survives(project, mutant)
            alive += complaint is not None
            print(
                f"{'SURVIVED' if complaint else 'caught  '}  {mutant[0]}{': ' + complaint if complaint else ''}",
                flush=True,
            )
    print(f"{len(chosen) - alive} of {len(chosen)} caught")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
