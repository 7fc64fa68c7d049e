"""The embedded world: mazes, their tokens, their questions and their grades."""

from clew.mazes.grading import PathGrade, grade_path
from clew.mazes.lattice import GENERATORS, Lattice, Question
from clew.mazes.questions import MazeStream, maze_questions
from clew.mazes.vocab import maze_tokenizer, parse_question, prompt_text, question_text

__all__ = [
    "GENERATORS", "Lattice", "MazeStream", "PathGrade", "Question",
    "grade_path", "maze_questions", "maze_tokenizer", "parse_question", "prompt_text", "question_text",
]  # fmt: skip
