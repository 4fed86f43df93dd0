"""What is made of evaluated circuits: intervals, faithfulness, areas, completeness, knowledge."""
