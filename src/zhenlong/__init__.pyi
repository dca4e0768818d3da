# Written by `python -m zhenlong.api.generate` from registry.py and api/public_names.py.

from zhenlong.data import ChatTemplate as ChatTemplate
from zhenlong.data import read as read
from zhenlong.data.commands import convert as convert_data
from zhenlong.data.commands import validate as validate_data
from zhenlong.errors import UserError as UserError
from zhenlong.evaluate.audit.contamination import contamination as contamination
from zhenlong.evaluate.compare.compare import compare as compare
from zhenlong.evaluate.compare.gate import gate as gate
from zhenlong.evaluate.heldout.reward_accuracy_command import reward_accuracy_command as reward_accuracy
from zhenlong.evaluate.run.scenarios_command import scenarios as scenarios
from zhenlong.evaluate.run.score_command import score as score
from zhenlong.feedback.ai_feedback import ai_feedback as ai_feedback
from zhenlong.feedback.critique import critique as critique
from zhenlong.feedback.demonstration_pairs import demonstration_pairs as demonstration_pairs
from zhenlong.feedback.judge_demonstrations import judge_demonstrations as judge_demonstrations
from zhenlong.feedback.simulate_preferences import simulate_preferences as simulate_preferences
from zhenlong.migration.convert_config import convert_config as convert_config
from zhenlong.models import load_model as load_model
from zhenlong.models import save_model as save_model
from zhenlong.models.merge import merge as merge
from zhenlong.report import write_report as write_report
from zhenlong.report.data_profile.command import profile as profile_data
from zhenlong.report.page import write_report as report
from zhenlong.rewards import build_reward_fn as build_reward_fn
from zhenlong.sampling import SamplingParams as SamplingParams
from zhenlong.sampling import TorchSampler as TorchSampler
from zhenlong.sampling.command import sample_command as sample
from zhenlong.stages.best_of_n import best_of_n as best_of_n
from zhenlong.stages.classify import classify as classify
from zhenlong.stages.compare_classifiers import compare_classifiers as compare_classifiers
from zhenlong.stages.derta import derta as derta
from zhenlong.stages.dpo import dpo as dpo
from zhenlong.stages.evaluate_command import evaluate_command as evaluate
from zhenlong.stages.grpo import grpo as grpo
from zhenlong.stages.kto import kto as kto
from zhenlong.stages.ppo import ppo as ppo
from zhenlong.stages.pretrain import pretrain as pretrain
from zhenlong.stages.raft import raft as raft
from zhenlong.stages.recipe import run as run
from zhenlong.stages.recipe_evaluations import evaluate_heldout as evaluate_heldout
from zhenlong.stages.recipe_evaluations import evaluate_world as evaluate_world
from zhenlong.stages.reward_model import reward_model as reward_model
from zhenlong.stages.self_reward import self_reward as self_reward
from zhenlong.stages.sft import sft as sft
from zhenlong.stages.tool_tasks import tool_tasks as tool_tasks
from zhenlong.studies.leaderboard import leaderboard as leaderboard
from zhenlong.verify.show_readings import verify_answers as verify_answers
from zhenlong.world import World as World
from zhenlong.world import gold_reward as gold_reward

__version__: str
__all__ = [
    "ChatTemplate",
    "SamplingParams",
    "TorchSampler",
    "UserError",
    "World",
    "ai_feedback",
    "best_of_n",
    "build_reward_fn",
    "classify",
    "compare",
    "compare_classifiers",
    "contamination",
    "convert_config",
    "convert_data",
    "critique",
    "demonstration_pairs",
    "derta",
    "dpo",
    "evaluate",
    "evaluate_heldout",
    "evaluate_world",
    "gate",
    "gold_reward",
    "grpo",
    "judge_demonstrations",
    "kto",
    "leaderboard",
    "load_model",
    "merge",
    "ppo",
    "pretrain",
    "profile_data",
    "raft",
    "read",
    "report",
    "reward_accuracy",
    "reward_model",
    "run",
    "sample",
    "save_model",
    "scenarios",
    "score",
    "self_reward",
    "sft",
    "simulate_preferences",
    "tool_tasks",
    "validate_data",
    "verify_answers",
    "write_report",
]
