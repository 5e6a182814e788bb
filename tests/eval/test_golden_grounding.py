"""Grounding metrics against the reference, case by case: tubes, RVOS, RES and GCG."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sama_plugin.errors import DataError
from sama_plugin.eval import gcg, res, rvos
from sama_plugin.eval import sama_bench_g as bench_g
from sama_plugin.eval.captions import missing_parts, score_tokenised
from sama_plugin.eval.tubes import iou_matrix, tube_iou
from sama_plugin.media.masks import decode, encode
from sama_plugin.media.rle import merge
from tests.eval.golden import topics


def tube(rles):
    return np.stack([decode(rle) for rle in rles])


def question(record):
    wanted = [tube(one) for one in record["gt_masks"]]
    found = [tube(one) for one in record["pred_masks"]]
    rows = len(bench_g.phrases_of(record["gt_text"]))
    columns = len(bench_g.phrases_of(record["pred_text"]))
    similarity = np.array(record["phrase_similarity_gt_by_pred"], float).reshape(rows, columns)
    return bench_g.Question(iou_matrix(wanted, found), similarity)


def mean_of(values):
    return sum(values.values()) / len(values)


def readings(asked):
    """Every reading of a video's questions, named as the reference names them."""
    coded = [bench_g.recall_released(one) for one in asked]
    fixed = [bench_g.recall_orientation_fixed(one) for one in asked]
    kept = [dataclasses.replace(f, phrases=c.phrases) for f, c in zip(fixed, coded)]
    admissible = [bench_g.recall_corrected(one) for one in asked]
    return {
        "miou": float(np.mean([bench_g.miou_released(one) for one in asked])),
        "miou_penalised": float(np.mean([bench_g.miou_corrected(one) for one in asked])),
        "recall": bench_g.video_recall(coded),
        "recall_orientation_fixed": bench_g.video_recall(fixed),
        "recall_orientation_fixed_same_skipping": bench_g.video_recall(kept),
        "recall_admissible_pairs": bench_g.video_recall(admissible),
    }


class TestSamaBenchG:
    def test_questions(self, sama_golden):
        for topic in topics(sama_golden, "sama_bench_g"):
            expected = topic.read("expected")["questions"]
            for video, records in topic.read("inputs").items():
                for record in records:
                    wanted = expected[f"{video}#{record['question']}"]
                    self.check(record, wanted)

    def check(self, record, wanted):
        one = question(record)
        assert bench_g.phrases_of(record["gt_text"]) == wanted["gt_phrases"]
        assert bench_g.phrases_of(record["pred_text"]) == wanted["pred_phrases"]
        assert bench_g.cleaned(record["pred_text"]) == wanted["pred_text_cleaned"]
        matrix = np.array(wanted["tube_iou_gt_by_pred"], float).reshape(one.ious.shape)
        assert one.ious == pytest.approx(matrix, abs=1e-9)
        assert bench_g.miou_released(one) == pytest.approx(wanted["miou"], abs=1e-9)
        assert bench_g.miou_corrected(one) == pytest.approx(wanted["miou_penalised"], abs=1e-9)
        coded, fixed = wanted["as_coded"], wanted["corrected"]
        released = bench_g.recall_released(one)
        assert (released.hits, released.phrases) == (
            coded.get("true_positives", 0),
            coded["gt_counted"],
        )
        pairs = [list(pair) for pair in bench_g.recall_orientation_fixed(one).pairs]
        assert pairs == fixed["matches_gt_pred_stop_at_first_bad_pair"]
        pairs = [list(pair) for pair in bench_g.recall_corrected(one).pairs]
        assert pairs == fixed["matches_gt_pred_admissible_pairs"]

    def test_videos_and_averages(self, sama_golden):
        for topic in topics(sama_golden, "sama_bench_g"):
            expected = topic.read("expected")
            asked = {v: [question(r) for r in rs] for v, rs in topic.read("inputs").items()}
            found = {name: readings(questions) for name, questions in asked.items()}
            for video, wanted in expected["videos"].items():
                stated = {**wanted["as_coded"], **wanted["corrected"]}
                assert stated == pytest.approx(
                    {name: found[video][name] for name in stated}, abs=1e-9
                ), video
                clair = {"clair": wanted["clair_given"]}
                found[video].update({**wanted["caption_scores"], **clair})
            self.check_averages(expected["averages"], found)

    def check_averages(self, averages, found):
        names = {"Mean IoU (mIoU)": "miou", "Recall": "recall", "CLAIR": "clair"}
        rules = {
            "as_coded_only_VidSTG_files": bench_g.released_file_average,
            "all_videos": mean_of,
            "corrected_mean_over_videos": mean_of,
            "evaluator_rank_file_all_videos_one_rank": bench_g.released_rank_average,
        }
        for block, wanted in averages.items():
            for name, value in wanted.items():
                if name == "videos":
                    chosen = [v for v in found if "VidSTG" in v or block == "all_videos"]
                    assert len(chosen) == value, block
                    continue
                per_video = {v: row[names.get(name, name)] for v, row in found.items()}
                assert rules[block](per_video) == pytest.approx(value, abs=1e-9), (block, name)

    def test_texts(self, sama_golden):
        for topic in topics(sama_golden, "sama_bench_g"):
            for case in topic.read("expected")["text_table"]:
                assert bench_g.phrases_of(case["text"]) == case["phrases"], case
                assert bench_g.cleaned(case["text"]) == case["cleaned_truncated_300_words"], case

    def test_tubes(self, sama_golden):
        for topic in topics(sama_golden, "sama_bench_g"):
            expected, tubes = topic.read("expected"), topic.read("tube_inputs")
            for name, (one, other) in tubes["tube_iou_cases"].items():
                found = tube_iou(tube(one), tube(other))
                assert found == pytest.approx(expected["tube_iou_cases"][name], abs=1e-9), name
            for name, case in tubes["miou_cases"].items():
                gt, pred = ([tube(one) for one in case[side]] for side in ("gt", "pred"))
                ious = iou_matrix(gt, pred)
                found = bench_g.miou_released(bench_g.Question(ious, np.zeros(ious.shape)))
                assert found == pytest.approx(expected["miou_cases"][name], abs=1e-9), name

    def test_captions(self, sama_golden):
        if any(not part.startswith("Java") for part in missing_parts()):
            pytest.skip("pycocoevalcap is not installed")
        for topic in topics(sama_golden, "sama_bench_g"):
            for video, wanted in topic.read("expected")["videos"].items():
                details = wanted["caption_details"]
                texts = [
                    [text for (text,) in details[f"tokenised_{side}"].values()]
                    for side in ("reference", "prediction")
                ]
                for name, value in score_tokenised(*texts).corpus.items():
                    assert value == pytest.approx(wanted["caption_scores"][name], abs=1e-9), video


@given(arrays(float, (3, 4), elements=st.floats(0, 1)), st.integers(0, 5))
def test_corrected_readings_do_not_depend_on_the_order_of_answers(ious, seed):
    order = np.random.default_rng(seed).permutation(4)
    ious = np.round(ious, 3) + np.arange(12).reshape(3, 4) * 1e-6  # no ties
    one, other = (bench_g.Question(m, (m > 0.4).astype(float)) for m in (ious, ious[:, order]))
    assert bench_g.miou_corrected(one) == pytest.approx(bench_g.miou_corrected(other))
    assert bench_g.miou_corrected(one) <= bench_g.miou_released(one) + 1e-12
    assert bench_g.recall_corrected(one).hits == bench_g.recall_corrected(other).hits
    assert bench_g.recall_corrected(one).hits >= bench_g.recall_orientation_fixed(one).hits


class Rvos:
    """One golden folder of RVOS, scored once."""

    def __init__(self, topic):
        self.expected = topic.read("expected")
        self.meta = topic.read("meta_expressions")["videos"]
        self.masks = topic.read("mask_dict")
        self.foreground = topic.read("mask_dict_foreground")
        self.predictions = topic.read("predictions_rle")

    def expressions(self):
        """(name, video, record, target sums, prediction or None, foreground)."""
        for video, info in self.meta.items():
            size = info["height"], info["width"]
            ground = rvos.summed([self.foreground[video]["masks_rle"]], size)
            for number, record in info["expressions"].items():
                tracks = [self.masks[str(one)] for one in record["anno_id"]]
                found = self.predictions.get(video, {}).get(number)
                found = found and rvos.summed([found["prediction_masks"]], size)
                yield f"{video}_{number}", record, rvos.summed(tracks, size), found, ground


def test_ref_davis17_counts_its_annotations(sama_golden):
    """Annotation k belongs to the k-th expression, videos and expression ids sorted as text."""
    for topic in topics(sama_golden, "rvos_jf"):
        videos = topic.read("ref_davis17_meta_expressions")["videos"]
        dictionary, predictions = topic.read("ref_davis17_mask_dict"), topic.read("predictions_rle")
        expected = topic.read("expected")["ref_davis17"]["per_expression"]
        listed = [(v, e) for v in sorted(videos) for e in sorted(videos[v]["expressions"])]
        assert {f"{v}_{e}" for v, e in listed} == set(expected)
        for number, (video, expression) in enumerate(listed):
            found = predictions.get(video, {}).get(expression)
            if found is None:
                none = {m: rvos.MISSING[m] for m in ("J", "F")}
                assert expected[f"{video}_{expression}"] == none, expression
                continue
            size = videos[video]["height"], videos[video]["width"]
            entries = dictionary[str(number)]
            masks = [next(filter(None, one), None) for one in (entries, found["prediction_masks"])]
            size = tuple(next(filter(None, masks))["size"]) if any(masks) else size
            pair = [rvos.summed([one], size) for one in (entries, found["prediction_masks"])]
            means, wanted = rvos.score(*pair).means(), expected[f"{video}_{expression}"]
            assert means == pytest.approx({m: wanted[m] for m in means}, abs=1e-9), expression


@pytest.fixture(scope="module")
def scored(sama_golden):
    """Per folder: expected, {block: {expression: means}}, kinds, per-frame scores."""
    results = []
    for topic in topics(sama_golden, "rvos_jf"):
        one = Rvos(topic)
        blocks = {name: {} for name in one.expected}
        kinds, frames = {}, {}
        for name, record, target, found, ground in one.expressions():
            kinds[name] = record["type_id"] == 1
            if found is None:
                scores = {block: dict(rvos.MISSING) for block in blocks}
            else:
                frames[name] = rvos.score(target, found, ground)
                right = frames[name].means()
                by_one = rvos.score_released(target, found, ground, value=1).means()
                scores = dict.fromkeys(blocks, right)
                scores["revos_sama_png_value_1"] = scores["revos_sa2va_rle"] = by_one
                scores["revos_sama_png_value_255"] = rvos.score_released(
                    target, found, ground
                ).means()
            for block in blocks:
                if not (found is None and block == "revos_sa2va_rle"):  # it raises KeyError
                    blocks[block][name] = scores[block]
        results.append((one.expected, blocks, kinds, frames))
    return results


def test_rvos_expressions(scored):
    for expected, blocks, _, frames in scored:
        for block, scores in blocks.items():
            assert set(scores) == set(expected[block]["per_expression"]), block
            for name, wanted in expected[block]["per_expression"].items():
                found = {measure: scores[name][measure] for measure in wanted}
                assert found == pytest.approx(wanted, abs=1e-9), (block, name)
        for name, wanted in expected["corrected_boolean"]["per_frame"].items():
            for measure, values in wanted.items():
                assert getattr(frames[name], measure) == pytest.approx(values, abs=1e-9), name


def test_rvos_averages(scored):
    for expected, blocks, kinds, _ in scored:
        for block, scores in blocks.items():
            wanted = expected[block]
            if "final_percent_rounded" in wanted:
                assert rvos.mean_percent_released(scores) == pytest.approx(
                    wanted["final_percent_rounded"], abs=1e-6
                )
                continue
            corrected = block == "corrected_boolean"
            rule = rvos.revos_percent if corrected else rvos.revos_percent_released
            for group, values in rule(scores, kinds).items():
                assert values == pytest.approx(wanted["final_percent"][group], abs=1e-6), block


class TestRes:
    def test_golden(self, sama_golden):
        for topic in topics(sama_golden, "res_ciou"):
            expected = topic.read("expected")
            for name, images in topic.read("inputs").items():
                self.check(self.overlaps(images, 1), expected[name])  # the first mask alone
                every = expected[name].get("union_of_all_masks")
                if every:
                    whole = res.ciou(self.overlaps(images, None))
                    assert whole == pytest.approx(every["cIoU"], abs=1e-6), name

    def overlaps(self, images, most):
        found = []
        for number, image in enumerate(images):
            for masks, target in zip(image["prediction_masks"], image["gt_masks"]):
                prediction = decode(merge(masks[:most])) if masks else None
                found.append(res.Overlap.of(decode(target), prediction, str(number)))
        return found

    def check(self, overlaps, wanted):
        sama, sa2va = wanted["none_skipped_as_in_sama"], wanted["none_as_empty_as_in_sa2va"]
        if "raises" in sama:
            with pytest.raises(DataError, match="without any prediction"):
                res.ciou_released(overlaps, missing="skipped")
        else:
            found = res.ciou_released(overlaps, missing="skipped")
            assert found == pytest.approx(sama["cIoU"], abs=1e-6)
            assert res.giou_released(overlaps) == pytest.approx(sama["gIoU"], abs=1e-6)
        found = res.ciou_released(overlaps, missing="empty")
        assert found == pytest.approx(sa2va["cIoU"], abs=1e-6)
        assert res.giou_released(overlaps) == pytest.approx(sa2va["gIoU"], abs=1e-6)
        check = wanted.get("independent_check")
        if check:
            assert res.ciou(overlaps) == pytest.approx(check["cIoU_none_as_empty"], abs=1e-9)
            assert res.giou(overlaps) == pytest.approx(check["gIoU_none_as_empty"], abs=1e-9)
            predicted = [one for one in overlaps if one.predicted]
            assert res.ciou(predicted) == pytest.approx(check["cIoU_none_skipped"], abs=1e-9)
        for one, counts in zip(overlaps, sum(wanted.get("per_sentence", []), [])):
            assert {name: getattr(one, name) for name in counts} == counts

    def test_nothing_to_find(self):
        empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
        pairs = [(empty, None), (empty, full), (full, full), (full, empty)]
        overlaps = [res.Overlap.of(*pair) for pair in pairs]
        assert res.no_target_accuracy(overlaps) == 0.5 == res.target_accuracy(overlaps)
        assert res.giou(overlaps) == pytest.approx((1 + 0 + 1 + 0) / 4)
        assert res.ciou(overlaps) == pytest.approx(16 / 48)

    def test_size_is_checked(self):
        with pytest.raises(DataError, match="another size"):
            res.Overlap.of(np.zeros((2, 2)), np.zeros((2, 3)), "image 7")


class TestGcg:
    def test_golden(self, sama_golden):
        for topic in topics(sama_golden, "gcg_metrics"):
            expected, pictures = topic.read("expected"), {}
            for name, record in topic.read("inputs").items():
                shape = len(record["gt_labels"]), len(record["pred_labels"])
                similarity = np.array(record["phrase_similarity_gt_by_pred"], float).reshape(shape)
                pictures[name] = gcg.Picture(
                    tuple(record["gt_masks"]), tuple(record["pred_masks"]), similarity
                )
            assert gcg.average_precision(pictures) == pytest.approx(expected["segm"], abs=1e-9)
            hits = 0
            for name, picture in pictures.items():
                ious = picture.ious()
                found = gcg.miou_released(ious)
                assert found == pytest.approx(expected["mIoU_per_image"][name], abs=1e-9), name
                pairs = gcg.recalled_released(ious, picture.similarity)
                wanted = expected["matches_gt_pred_per_image"][name]
                assert [list(pair) for pair in pairs] == wanted, name
                assert len(gcg.recalled_corrected(ious, picture.similarity)) >= len(pairs)
                hits += len(pairs)
            assert hits == expected["true_positives"]
            assert hits / expected["gt_phrases"] == pytest.approx(expected["Recall"], abs=1e-9)
            mean = np.mean(list(expected["mIoU_per_image"].values()))
            assert expected["mIoU"] == pytest.approx(mean, abs=1e-9)

    def test_edge_cases(self, sama_golden):
        square = np.zeros((6, 6), bool)
        square[:3, :3] = True
        masks = {"s": square, "e": np.zeros((6, 6), bool), "m": np.roll(square, 2, 0)}
        cases = {
            "empty_gt_and_empty_pred_together_with_a_perfect_pair": ("se", "se"),
            "no_prediction": ("s", ""),
            "no_ground_truth": ("", "s"),
            "perfect_plus_extra_prediction": ("s", "sm"),
            "perfect_plus_missed_ground_truth": ("sm", "s"),
        }
        for topic in topics(sama_golden, "gcg_metrics"):
            for name, wanted in topic.read("expected")["miou_edge_cases"].items():
                sides = [tuple(encode(masks[one]) for one in side) for side in cases[name]]
                picture = gcg.Picture(*sides, np.zeros([len(side) for side in sides]))
                assert gcg.miou_released(picture.ious()) == wanted, name

    def test_an_empty_pair_spoils_the_released_image_only(self):
        ious = np.array([[1.0, 0.0], [0.0, np.nan]])
        assert gcg.miou_released(ious) == 0.0
        assert gcg.miou_corrected(ious) == 1.0
        assert gcg.miou_corrected(np.array([[1.0, 0.0]])) == 0.5
