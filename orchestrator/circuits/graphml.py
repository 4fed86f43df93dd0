"""A circuit as GraphML, as NetworkX reads it (`networkx.read_graphml`): a directed graph.

Its nodes are writers and readers; `m5` is both. Its edges are the circuit's (`kind` edge), the
always-on ones that lead to its readers (`always_on`), and steps from a head's readers to the head
(`inside`), so that a path in the file is a path in the model. A key/value head's readers lead to
every query head they serve.
"""

from xml.etree import ElementTree as xml

from model_patches.circuit import Circuit, feeding_readers
from model_patches.graph import Node

NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
NODE_KEYS = {"kind": "string", "layer": "int", "head": "int", "part": "string"}
EDGE_KEYS = {"kind": "string", "score": "double", "input": "string"}


def graphml(circuit: Circuit) -> bytes:
    """The kept edges and the nodes they touch. The same circuit is the same bytes."""
    graph, kept = circuit.graph, circuit.kept
    root = xml.Element("graphml", xmlns=NAMESPACE)
    for domain, keys in (("node", NODE_KEYS), ("edge", EDGE_KEYS)):
        for name, kind in keys.items():
            told = {"id": f"{domain}_{name}", "for": domain, "attr.name": name, "attr.type": kind}
            xml.SubElement(root, "key", told)
    inside = xml.SubElement(root, "graph", id="circuit", edgedefault="directed")
    described = {"shape": vars(graph.shape), "embeddings": graph.embeddings, "kept": circuit.num_edges}
    xml.SubElement(inside, "desc").text = str(described)
    found: dict[str, Node] = {}
    edges: list[tuple[str, str, dict[str, object]]] = []
    feeding = feeding_readers(graph)
    used = kept.any(dim=0)
    for row in kept.any(dim=1).nonzero().flatten().tolist():
        used[feeding[row]] = True  # always-on edges alone can keep a head alive
    for row, column in (kept | (graph.always_on & used)).nonzero().tolist():
        writer, reader = graph.writers[row], graph.readers[column]
        found |= {writer.name: writer, reader.name: reader}
        about: dict[str, object] = {"kind": "edge" if kept[row, column] else "always_on"}
        if kept[row, column]:
            about["score"] = float(circuit.scores[row, column])
        edges.append((writer.name, reader.name, about | {"input": reader.part or reader.kind}))
    for row, (node, columns) in enumerate(zip(graph.writers, feeding, strict=True)):
        names = [graph.readers[column].name for column in columns]
        readers = [name for name in names if node.kind == "head" and name in found]
        if readers and (node.name in found or kept[row].any()):
            found[node.name] = node
            edges.extend((name, node.name, {"kind": "inside"}) for name in readers)
    for name, node in sorted(found.items(), key=lambda item: (item[1].layer, item[0])):
        element = xml.SubElement(inside, "node", id=name)
        _data(element, "node", {"kind": node.kind, "layer": node.layer, "head": node.head, "part": node.part})
    for number, (writer, reader, about) in enumerate(edges):
        _data(xml.SubElement(inside, "edge", id=f"e{number}", source=writer, target=reader), "edge", about)
    xml.indent(root)
    return xml.tostring(root, encoding="utf-8", xml_declaration=True)


def _data(element: xml.Element, domain: str, values: dict[str, object]) -> None:
    for name, value in values.items():
        if value == "":
            continue
        xml.SubElement(element, "data", key=f"{domain}_{name}").text = str(value)
