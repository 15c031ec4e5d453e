"""The source itself: it loads in every PHP from 7.4 on, and says what its numbers are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bitville_apm import limits
from tests.php.peer import PHP, Site

FILES = sorted(PHP.rglob("*.php"))
TESTS = sorted(Path(__file__).parent.rglob("*.php"))
"""The client's tests in PHP, which are read by the versions they compare, too."""

# What the tokenizer of PHP 8 has its own tokens for, and PHP 7.4 cannot read.
NEW_TOKENS = {"T_MATCH", "T_ENUM", "T_READONLY", "T_NULLSAFE_OBJECT_OPERATOR", "T_PROPERTY_C"}

FINDER = r"""
$out = [];
$tokens = array_values(array_filter(token_get_all(file_get_contents($argv[1])), function ($t) {
    return !is_array($t) || !in_array($t[0], [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT], true); }));
foreach ($tokens as $i => $token) {
    $name = is_array($token) ? token_name($token[0]) : $token;
    $next = isset($tokens[$i + 1]) ? $tokens[$i + 1] : '';
    $out[] = $name;
    if (is_array($token) && $token[0] === T_STRING && $next === ':' && in_array($tokens[$i - 1], ['(', ','], true)) {
        $out[] = 'NAMED ARGUMENT';
    }
    if ($token === '|' && is_array($next) && preg_match('/^(int|string|bool|array|float|null|false)$/', $next[1])) {
        $out[] = 'UNION TYPE';
    }
    if ($name === 'T_CATCH' && $tokens[$i + 3] === ')') {
        $out[] = 'CATCH WITHOUT NAME';
    }
    if ($name === 'T_THROW' && in_array($tokens[$i - 1], ['?', ':'], true)) { $out[] = 'THROW EXPRESSION'; }
    $visibility = in_array($name, ['T_PUBLIC', 'T_PRIVATE', 'T_PROTECTED'], true);
    if ($visibility && in_array($tokens[$i - 1], ['(', ','], true)) {
        $out[] = 'PROMOTED PROPERTY';
    }
}
foreach ($tokens as $i => $token) {
    if (is_array($token) && $token[0] === T_FUNCTION) {
        for ($j = $i, $depth = 0; isset($tokens[$j]); $j++) {
            if ($tokens[$j] === '(') { $depth++; }
            if ($tokens[$j] === ')' && --$depth === 0) {
                $out[] = $tokens[$j - 1] === ',' ? 'TRAILING COMMA' : 'T_FUNCTION';
                break;
            }
        }
    }
}
echo implode("\n", $out);
"""

NEW_FUNCTIONS = re.compile(
    r"\b(str_contains|str_starts_with|str_ends_with|get_debug_type|get_resource_id|array_is_list|array_find|"
    r"array_any|array_all|fsync|fdatasync|json_validate|mb_str_pad|ini_parse_quantity|memory_reset_peak_usage|"
    r"preg_last_error_msg|array_key_last_|static fn|mixed|never)\s*\("
)


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda path: "/".join(path.parts[-2:]))
def test_every_file(site: Site, path: Path) -> None:
    """PHP-13: every file lints, and uses no syntax or function that PHP 7.4 does not have."""
    lint = subprocess.run(["php", "-n", "-l", str(path)], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout
    found = site.run(FINDER, str(path), client=False, extensions=("tokenizer",)).stdout.decode().split("\n")
    assert "T_OPEN_TAG" in found
    assert not (NEW_TOKENS & set(found))
    assert not [name for name in found if " " in name]
    assert not NEW_FUNCTIONS.search(path.read_text())


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda path: "/".join(path.parts[-2:]))
def test_no_new_syntax_in_attributes(path: Path) -> None:
    """PHP-13: PHP 7.4 reads `#[…]` as a comment to the end of the line: so nothing may follow it there."""
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("#["):
            assert line.rstrip().endswith("]"), line


def test_loaded_classes_are_all_there_are() -> None:
    """COMM-06: what listener.php loads, at once and later, are all files of src/, each once."""
    texts = [(PHP / "src" / f"{name}.php").read_text() for name in ("begin", "rest")]
    named = [
        n for text in texts for n in re.findall(r"'([A-Z][A-Za-z]+)'", text.split("$classes = ", 1)[1].split("];")[0])
    ]
    assert sorted(named) == sorted(path.stem for path in (PHP / "src").glob("[A-Z]*.php"))


def test_numbers_are_the_agents() -> None:
    """COMM-08, wire.md 4: bounds that both sides know are the same numbers."""
    text = (PHP / "src" / "Limits.php").read_text()
    ours = {name: int(value) for name, value in re.findall(r"const (\w+) = (\d+);", text)}
    for name in ("SPOOL_FILES", "SPOOL_BYTES", "SPOOL_AGE_S", "SPOOL_SHORT_BYTES"):
        assert ours[name] == getattr(limits, name), name
    assert ours["STATEMENT_BYTES"] == limits.SQL_INPUT_BYTES
    assert ours["DEADLINE_MS"] == 50
    assert ours["HANDOVER_WARN_MS"] == 40
