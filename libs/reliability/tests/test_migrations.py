"""The library's tables are applied together with a service's: no two migrations may share a number."""

from pathlib import Path

from reliability import migrations


def test_every_migration_has_a_number_of_its_own() -> None:
    """A migration is its number to dbmate: the second of two with the same would never be applied."""
    files = list(Path(migrations.__file__).parent.rglob("*.sql"))
    numbers = [file.name.partition("_")[0] for file in files]
    assert len(set(numbers)) == len(numbers) > len(migrations.PARTS)


def test_every_folder_is_a_part() -> None:
    """What is not named in `PARTS` is applied nowhere."""
    folders = {file.parent.name for file in Path(migrations.__file__).parent.rglob("*.sql")}
    assert folders == set(migrations.PARTS)
