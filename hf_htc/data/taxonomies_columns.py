"""What the columns of a taxonomy's table, or the keys of its JSON records, hold: told by their names."""

from __future__ import annotations

import re


def _words(text):
    return frozenset(text.replace("_", " ").split(",")) if "," in text else frozenset(text.split())


# Each role with the words that name it, in small letters, without signs; several languages of published taxonomies.
WORDS = {
    "parent": _words(
        "parent,broader,broader term,bt,hypernym,superclass,superordinate,father,mother,parent of child,"
        "is a,isa,subclass of,oberbegriff,eltern,elternteil,übergeordnet,vater,mutter,padre,pai,père,"
        "pere,genitore,ouder,parents,broaders,part of,上级,父级,父节点"
    ),
    "child": _words(
        "child,narrower,narrower term,nt,hyponym,subclass,subordinate,unterbegriff,kind,hijo,hija,filho,"
        "enfant,fils,figlio,子节点,子级"
    ),
    "children": _words("children,childs,narrowers,subclasses,kinder,hijos,enfants,child nodes,subcategories list,children ids"),
    "id": _words(
        "id,ids,code,uri,url,iri,key,identifier,notation,nr,no,kennung,kode,codigo,código,codice,cod,"
        "schlüssel,schluessel,sigle,cui,ui,guid,uuid,slug,symbol,编码,代码"
    ),
    "name": _words(
        "name,label,title,term,heading,caption,preflabel,pref label,preferred label,preferred term,"
        "bezeichnung,titel,benennung,nombre,nome,nom,titulo,título,titolo,titre,intitulé,intitule,"
        "libelle,libellé,denominación,denominacion,descriptor,begriff,naam,names,labels,nazwa,名称,标签,"
        "display name"
    ),
    "text": _words("text,texts,words,label words"),
    "alternative": _words(
        "alternative,alternatives,alternative name,alternative names,alternative label,"
        "alternative labels,alt label,alt labels,altlabel,altlabels,synonym,synonyms,alias,aliases,aka,"
        "used for,uf,synonyme,sinónimos,alternate,alternate names,alternative_names"
    ),
    "description": _words(
        "description,descriptions,definition,scope note,scope,note,notes,gloss,comment,beschreibung,"
        "definicion,definición,descripción,descripcion,définition,includes,explanation,desc,erläuterung,"
        "details"
    ),
    "path": _words(
        "path,full path,fullpath,hierarchy,breadcrumb,breadcrumbs,category path,pfad,ruta,chemin,"
        "full name,fullname,lineage,taxonomy"
    ),
    "level": _words("level,depth,ebene,stufe,niveau,nivel,livello,lvl,tiefe,层级"),
    "numbers": _words("tree number,tree numbers,treenumber,treenumbers,tree num,mn,tree code,tree codes,mesh tree number"),
    "is label": _words("is label,islabel"),
    "source": _words("source,from,src"),
    "target": _words("target,to,dst,destination"),
}
ROLE_OF = {"".join(word.split()): role for role, words in WORDS.items() for word in words}
# Words of columns that each hold one level.
LEVEL_WORDS = re.compile(
    r"^(?:(?:sub[\s-]*)*(?:category|categories|cat|class|group|topic|domain|area|field|sector|section|division|department|family|segment|"
    r"commodity|chapter|heading|subject|theme|genre|kategorie|gruppe|bereich|thema|rubrik|unter\w+|ober\w+|haupt\w+|major|minor|unit|"
    r"categor[ií]a|sub\w+|main\w*|l|lvl|level|ebene|stufe|niveau|nivel|tier|rank|order|genus|species|kingdom|phylum)[\s_-]*\d*"
    r"|\d+(?:st|nd|rd|th)?\s*(?:level|category|class))$"
)
LANGUAGES = frozenset(
    [
        "en",
        "de",
        "fr",
        "es",
        "it",
        "pt",
        "nl",
        "pl",
        "sv",
        "da",
        "fi",
        "cs",
        "hu",
        "ru",
        "ja",
        "zh",
        "ko",
        "el",
        "tr",
        "uk",
        "ro",
        "bg",
        "sk",
        "sl",
        "hr",
        "et",
        "lv",
        "lt",
        "ar",
        "he",
    ]
)
LANGUAGE = re.compile(r"^(.+?)[\s_@.:(\[-]+([a-z]{2,3}(?:-[A-Za-z]{2,4})?)[)\]]?$")


class Column:
    """
    A column by its name.

    Attributes:
        name (`str`): As it stands in the file.
        role (`str` or `None`): One of [`WORDS`], `None` for any other.
        base (`str`): What is left of the name without the word of its role: `"segment"` of `"Segment Title"`.
        language (`str`, *optional*): Of `"name_de"`, `"label@fr"`.
    """

    def __init__(self, name):
        self.name, self.language = name, None
        self.role, self.base = _role(name)
        match = LANGUAGE.match(name.strip())
        if self.role is None and name.strip().lower() in LANGUAGES:
            self.role, self.base, self.language = "name", "", name.strip().lower()
        if self.role is None and match and (not match.group(2).isupper() or match.group(2).lower() in LANGUAGES):
            role, base = _role(match.group(1))
            if role in ("name", "alternative", "description", "text"):
                self.role, self.base, self.language = role, base, match.group(2)

    @property
    def is_level(self):
        """Whether the name is that of one level among several."""
        return LEVEL_WORDS.match(" ".join(_tokens(self.name))) is not None


def _tokens(name):
    spaced = re.sub(r"(?<=[a-zà-ÿ])(?=[A-Z])", " ", str(name))
    return re.findall(r"[^\W_]+", spaced.lower())


def _role(name):
    tokens = _tokens(name)
    if not tokens:
        return None, ""
    whole = "".join(tokens)
    if whole in ROLE_OF:
        return ROLE_OF[whole], ""
    # "parent_id", "Broader Concept", "parentCode"; not "grandparents", which reach over a level.
    if ROLE_OF.get(tokens[0]) == "parent" or whole.startswith("parent"):
        return "parent", " ".join(tokens[1:])
    if ROLE_OF.get(tokens[0]) == "child" and len(tokens) == 2 and ROLE_OF.get(tokens[1]) in ("id", "name"):
        return "child", tokens[1]
    for count in (2, 1):
        role = ROLE_OF.get("".join(tokens[-count:])) if len(tokens) > count else None
        if role not in (None, "source", "target", "children"):
            return role, " ".join(tokens[:-count])
    if len(tokens) > 1 and ROLE_OF.get(tokens[0]) in ("id", "name") and tokens[-1].isdigit():
        return ROLE_OF[tokens[0]], " ".join(tokens[1:])  # "code 1", "title 1"
    match = re.fullmatch(r"(\D+)(\d+)", whole)
    if match and ROLE_OF.get(match.group(1)) in ("id", "name"):
        return ROLE_OF[match.group(1)], match.group(2)  # "code1", "title1"
    return None, " ".join(tokens)


def is_header(cells, rows):
    """
    Whether the first row names the columns.

    Args:
        cells (`list[str]`): The first row.
        rows (`list[list[str]]`): Those below it.
    """
    cells = [cell.strip() for cell in cells]
    filled = [cell for cell in cells if cell]
    if not filled or len(set(cells)) < len(cells) or any(re.fullmatch(r"[-+]?[\d.,]+", cell) for cell in cells):
        return False
    columns = [Column(cell) for cell in cells]
    told = [column.role is not None or column.is_level for column in columns]
    below = [{row[i].strip() for row in rows if i < len(row)} for i in range(len(cells))]
    if any(cell and cell in values for cell, values in zip(cells, below)):
        return False  # the name of a node, which later lines use
    strong = {"parent", "child", "children", "id", "name", "numbers", "path", "source", "alternative"}
    if strong & {column.role for column in columns} and sum(told) * 2 >= len(cells):
        roles = {column.role for column in columns}
        if len(cells) > 2 and "parent" in roles and roles & {"id", "name", "child"}:
            return True
        # A word such as "Name" or "Children" may be a node, which other lines then use.
        others = set().union(*below) if below else set()
        return not any(cell in others for cell in filled)
    if len(cells) > 1 and all(told):
        return True
    first = [row[0].strip() for row in rows if row]
    # In a table with one column per level, all values of the first column repeat but its name.
    return len(cells) > 2 and len(first) > 3 and min(first.count(value) for value in set(first)) > 1
