"""The embedded world: mazes, their tokens, their questions and their grades."""

from clew.mazes.forks import lookahead
from clew.mazes.grading import PathGrade, grade_path
from clew.mazes.interop import (
    ascii_maze,
    from_solved_maze,
    parse_ascii,
    read_questions,
    to_maze_dataset,
    to_solved_maze,
)
from clew.mazes.kernels import GENERATORS
from clew.mazes.lattice import Lattice, Question
from clew.mazes.questions import MazeStream, maze_questions
from clew.mazes.vocab import maze_tokenizer, parse_question, prompt_text, question_text

__all__ = ["GENERATORS", "Lattice", "MazeStream", "PathGrade", "Question", "ascii_maze", "from_solved_maze"]
__all__ += ["grade_path", "lookahead", "maze_questions", "maze_tokenizer", "parse_ascii", "parse_question"]
__all__ += ["prompt_text", "question_text", "read_questions", "to_maze_dataset", "to_solved_maze"]
