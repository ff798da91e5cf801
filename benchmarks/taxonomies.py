"""Time to read a large taxonomy in every form that can hold it.

    python benchmarks/taxonomies.py mesh_bioasq.tsv

The taxonomy is written in each form into a temporary folder and read back. Times are CPU seconds of this process
(`time.process_time`), so a busy machine does not change them much; the ratio is to the file of `LabelHierarchy.save`.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path

import networkx
import rdflib

from hf_htc.data.taxonomies_writing import taxonomy_text
from hf_htc.models.hierarchy import LabelHierarchy


def forms(hierarchy):
    """Yields file name and content of every form."""
    names = hierarchy.names
    yield "save.json", taxonomy_text(hierarchy, "json")
    yield "edges.tsv", "".join(f"{parent}\t{child}\n" for parent, child in hierarchy.to_edges())
    yield "table.csv", taxonomy_text(hierarchy, "csv")
    yield "adjacency.json", json.dumps({name: [names[c] for c in row] for name, row in zip(names, hierarchy.children)})
    rows = [{"id": name, "parents": [names[p] for p in row]} for name, row in zip(names, hierarchy.parents)]
    yield "records.json", json.dumps(rows)
    yield "node_link.json", json.dumps(networkx.node_link_data(hierarchy.to_networkx(), edges="links"))
    yield "terms.obo", taxonomy_text(hierarchy, "obo")
    turtle = taxonomy_text(hierarchy, "skos")
    yield "scheme.ttl", turtle
    graph = rdflib.Graph(bind_namespaces="none").parse(data=turtle, format="turtle")
    for form, suffix in (("nt", "nt"), ("xml", "rdf"), ("json-ld", "jsonld")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an encoding that was not given
            yield f"scheme.{suffix}", graph.serialize(format=form)
    if hierarchy.is_tree and len(hierarchy.edges):
        yield "nested.json", json.dumps(hierarchy.to_nested())
        yield "paths.txt", taxonomy_text(hierarchy, "paths")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("taxonomy", help="a taxonomy file of any form")
    options = parser.parse_args(arguments)
    hierarchy = LabelHierarchy.from_file(options.taxonomy)
    print(f"{hierarchy!r}, {len(hierarchy.edges):,} edges")
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in forms(hierarchy):
            path = Path(folder) / name
            path.write_text(content, encoding="utf-8")
            start = time.process_time()
            copy = LabelHierarchy.from_file(path, root=None if name == "edges.tsv" else False)
            seconds = time.process_time() - start
            first = first or seconds
            # Paths hold no names.
            same = name == "paths.txt" or sorted(copy.names) == sorted(hierarchy.names)
            same = same and len(copy) == len(hierarchy) and len(copy.edges) == len(hierarchy.edges)
            print(f"{name:16}{seconds:8.2f} s{seconds / first:8.1f} x{'' if same else '  NOT THE SAME'}")


if __name__ == "__main__":
    main()
