"""What a column is called: like an id, a time, a label, an amount of money; in the commonest languages of its users.

Names break ties. What a column's values say counts first: no column is a time whose values are none, and no id whose
values do not look like one. So a word that means something else elsewhere does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_LETTER: Final = r"[^\W\d_]"

# Of each language its commonest words: whole words of a name, unless a hyphen shows what they may be the end of.
_IDS: Final = (
    "id uuid guid key index instant row customer client user account",
    "-kennung -schlüssel -nr -nummer kunde konto",  # German
    "identifiant clé client compte",  # French
    "identificador clave cliente cuenta",  # Spanish
    "identificativo codice cliente conto",  # Italian
    "identificador chave cliente conta",  # Portuguese
    "-kenmerk -sleutel -nummer klant rekening",  # Dutch
)
_NUMBERS: Final = ("no nr num number ref reference", "-nr -nummer", "numéro numero núm número")
_TIMES: Final = (
    "-time- -date- -epoch- -unix- -stamp- -created- -occurred- -received- ts dt at day dteday when",
    "-zeit- -datum- tag wann",
    "-heure- -horodat- jour quand",
    "-fecha- hora día cuándo",
    "-orario- data ora giorno quando",
    "-horário- data hora dia quando",
    "-tijd- -datum- dag wanneer",
)
_OTHER_TIMES: Final = (
    "-birth- dob -expir- -until- due end ends ended -deadline- valid",
    "-geburt- -ablauf- bis fällig- -ende gültig-",
    "-naissance- -échéance- fin jusqu-",
    "-nacimiento- -vencimiento- fin hasta",
    "-nascita- -scadenza- fine fino",
    "-nascimento- -vencimento- fim até",
    "-geboorte- verval- einde tot",
)
_LABELS: Final = (
    "label target class y truth outcome fraud churn churned spam default defaulted click clicked conversion converted "
    "anomaly isfraud isspam isanomaly",
    "ziel zielwert zielgröße -klasse betrug kündigung ausfall",
    "cible étiquette classe fraude résiliation défaut",
    "objetivo etiqueta clase fraude abandono impago",
    "obiettivo etichetta classe frode abbandono",
    "alvo rótulo classe fraude cancelamento",
    "doel doelwaarde klasse fraude opzegging",
)
_AMOUNTS: Final = (
    "amount amt price value total revenue sum",
    "-betrag -preis -wert -summe umsatz",
    "montant prix valeur somme",
    "importe monto precio valor suma",
    "importo prezzo valore somma",
    "montante preço valor quantia soma",
    "bedrag -prijs -waarde -som omzet",
)


def _pattern(rows: Sequence[str], *, last: bool = False) -> re.Pattern[str]:
    """A name with one of the words.

    Args:
        last: the word stands at the name's end.
    """
    found = []
    for word in sorted({word for row in rows for word in row.split()}):
        begin = "" if word.startswith("-") else rf"(?<!{_LETTER})"
        end = "" if word.endswith("-") else rf"(?!{_LETTER})"
        found.append(f"{begin}{re.escape(word.strip('-'))}{end}")
    return re.compile(f"(?:{'|'.join(found)})" + (r"[\W_]*$" if last else ""), re.IGNORECASE)


_ID_NAME: Final = _pattern(_IDS, last=True)
_ID_CAMEL: Final = re.compile(r"[a-z](?:Id|ID|Key|Nr)$")
_NUMBER_NAME: Final = _pattern(_NUMBERS, last=True)
_TIME_NAME: Final = _pattern(_TIMES)
_OTHER_TIME: Final = _pattern(_OTHER_TIMES)
_LABEL_NAME: Final = _pattern(_LABELS, last=True)
_AMOUNT_NAME: Final = _pattern(_AMOUNTS)


def looks_like_id(name: str) -> bool:
    """Whether a field is named like an id of rows, people or things."""
    return bool(_ID_NAME.search(name) or _ID_CAMEL.search(name))


def numbers_rows(name: str) -> bool:
    """Whether a field is named like the number of a row: an id if it is unique."""
    return bool(_NUMBER_NAME.search(name))


def names_time(name: str) -> bool:
    """Whether a field is named like a time."""
    return bool(_TIME_NAME.search(name))


def names_other_time(name: str) -> bool:
    """Whether a field is named like a time that is not when the event happened: a birth, an expiry."""
    return bool(_OTHER_TIME.search(name))


def names_label(name: str) -> bool:
    """Whether a field is named like what one would predict."""
    return bool(_LABEL_NAME.search(name))


def names_amount(name: str) -> bool:
    """Whether a field is named like money."""
    return bool(_AMOUNT_NAME.search(name))
